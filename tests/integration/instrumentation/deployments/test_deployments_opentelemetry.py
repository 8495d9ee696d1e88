"""Under OpenTelemetry's own launcher, alone, above and below ours: nothing is lost or doubled."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

BUY = "POST /purchases/{user}"
BIN = Path(sys.executable).parent
INSTRUMENT = (str(BIN / "opentelemetry-instrument"),)
RUN = (str(BIN / "heatshield"), "run", "--")
UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}")
OURS = {"OTEL_PYTHON_DISTRO": "heatshield"}
THEIRS = {
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}

LAUNCHES = [
    pytest.param(INSTRUMENT, OURS, id="by the distro"),
    pytest.param((*RUN, *INSTRUMENT), {}, id="below heatshield run"),
    pytest.param((*INSTRUMENT, *RUN), {}, id="above heatshield run"),
    pytest.param((*RUN, *INSTRUMENT), THEIRS, id="below, with another distro"),
    pytest.param((*RUN, *RUN), {}, id="heatshield run twice"),
]


@pytest.mark.parametrize(("launch", "env"), LAUNCHES)
def test_every_request_is_one_span_however_it_is_launched(
    deploy, until, purchases, instances, collector, launch, env
):
    workers = 2
    server = deploy(
        "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])",
        *launch, sys.executable, *UVICORN, "--workers", str(workers),
        instrumented=False, env=env,
    )  # fmt: skip
    until(lambda: len(instances(BUY)[0]) == workers, timeout_s=30)
    server.buy_of_each_of(workers)
    server.end()
    once = Counter(server.bought)
    assert purchases(BUY) == (once, once)
    assert len(instances(BUY)[1]) == workers
    servers = [span for _, span in collector.spans if span.kind == span.SPAN_KIND_SERVER]
    assert len(servers) == len(server.bought)
    assert {resource["service.name"] for resource, _ in collector.spans} == {"shop"}


def instrumented(code, **env):
    """What a program says under the plain launcher, where the usual distro is installed, too."""
    return subprocess.run(
        [*INSTRUMENT, sys.executable, "-c", code],
        env={
            **os.environ,
            "HEATSHIELD_ENDPOINT": "http://127.0.0.1:9",
            **{name: value for name, value in THEIRS.items() if name.endswith("EXPORTER")},
            **env,
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


STATUS = "import heatshield; status = heatshield.status(); "


def test_without_being_named_it_stands_back_for_the_usual_distro():
    said = instrumented(
        STATUS + "import opentelemetry.trace as t; "
        "print(status['instrumented'], type(t.get_tracer_provider()).__module__)"
    )
    assert said == "False opentelemetry.sdk.trace"


def test_below_heatshield_run_no_sdk_is_set_up_that_would_export_as_well():
    said = subprocess.run(
        [*RUN, *INSTRUMENT, sys.executable, "-c",
         "import opentelemetry.trace as t; print(type(t.get_tracer_provider()).__module__)"],
        env={**os.environ, "HEATSHIELD_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert said == "heatshield.tracing.provider\n"


def test_what_opentelemetry_is_told_holds_for_heatshield():
    said = instrumented(
        STATUS + "print(status['service'], status['integrations']['redis'], "
        "status['integrations']['grpc'], status['integrations']['httpx'])",
        OTEL_PYTHON_DISTRO="heatshield",
        OTEL_RESOURCE_ATTRIBUTES="team=a,service.name=my%20shop",
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="redis, grpc_aio_server",
    )
    assert said == "my shop disabled disabled ready"


@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}, {"HEATSHIELD_ENABLED": "false"}])
def test_it_can_be_switched_off(env):
    said = instrumented(STATUS + "print(status['instrumented'])", **OURS, **env)
    assert said == "False"
