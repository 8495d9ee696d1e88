"""gevent and eventlet: threads become greenlets, before or after heatshield is there."""

import signal
import socket
import subprocess
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

CALL = "POST /purchases/<user>"

USER = "enduser.id"

PATCH = {
    "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
    "eventlet": "import eventlet\neventlet.monkey_patch()\n",
}

INSTRUMENT = "import heatshield\nheatshield.instrument()\n"

SHOP = """
import logging, os, sys, time
from flask import Flask
from prometheus_client import Counter

app = Flask(__name__)
sold = Counter("sold", "Own metric of the service.")

@app.post("/purchases/<user>")
def buy(user):
    sold.inc()
    time.sleep(0.05)  # other requests run meanwhile
    logging.getLogger("shop").warning("bought by %s", user)
    return str(os.getpid())
"""

SERVE = {
    "gevent": """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
""",
    "eventlet": """
from eventlet import listen, wsgi
wsgi.server(listen(("127.0.0.1", int(sys.argv[1]))), app, log_output=False)
""",
}

GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "shop:app")


def needs(library):
    return pytest.mark.skipif(
        find_spec(library) is None, reason=f"{library} is not installed: pip install {library}"
    )


LIBRARIES = [pytest.param(library, marks=needs(library)) for library in PATCH]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("order", ["patched first", "patched later", "heatshield run"])
def test_a_server_of_greenlets_sends_every_span_and_log_and_follows_the_breakers(
    deploy, until, purchases, instances, collector, tmp_path, library, order
):
    steps = {
        "patched first": PATCH[library] + INSTRUMENT,
        "patched later": INSTRUMENT + PATCH[library],
        "heatshield run": PATCH[library],
    }
    (tmp_path / "serve.py").write_text(steps[order] + SHOP + SERVE[library])
    server = deploy("serve.py", "{port}", instrumented=order == "heatshield run")
    server.buy_of_each_of(1)
    until(lambda: len(instances(CALL)[0]) == 1)
    server.buy_of_each_of(1)
    assert server.end() < 5
    assert server.process.returncode == -signal.SIGTERM

    once = Counter(server.bought)
    assert purchases(CALL) == (once, once)
    following, of_spans = instances(CALL)
    assert set(following) == of_spans


WORKERS = [
    pytest.param("gevent", (), id="gevent", marks=needs("gevent")),
    pytest.param("gevent", ("--preload",), id="gevent --preload", marks=needs("gevent")),
]


@pytest.mark.parametrize(("kind", "more"), WORKERS)
def test_gunicorns_workers_of_greenlets(deploy, until, purchases, instances, tmp_path, kind, more):
    (tmp_path / "shop.py").write_text(SHOP)
    server = deploy(*GUNICORN, "-k", kind, "-w", "2", *more)
    until(lambda: len(instances(CALL)[0]) == 2, timeout_s=30)  # before any request
    server.buy_of_each_of(2)
    assert server.end() < 5
    assert server.process.returncode == 0

    once = Counter(server.bought)
    assert purchases(CALL) == (once, once)
    following, of_spans = instances(CALL)
    assert set(following) == of_spans


@pytest.fixture
def serve(deploy, tmp_path):
    """Start a server of greenlets that was patched first; its address."""

    def start(library, **env):
        (tmp_path / "serve.py").write_text(PATCH[library] + INSTRUMENT + SHOP + SERVE[library])
        env = {f"HEATSHIELD_{key.upper()}": str(value) for key, value in env.items()}
        server = deploy("serve.py", "{port}", instrumented=False, env=env, stderr=subprocess.PIPE)
        server.wait_ready()
        return server

    return start


def bought(server, user):
    return httpx.post(f"http://127.0.0.1:{server.port}/purchases/{user}").status_code


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_tripped_user_is_refused_and_no_other(serve, until, collector, library):
    server = serve(library)
    assert bought(server, "hog") == 200
    until(lambda: collector.streams)
    collector.grant("hog", CALL)
    until(lambda: bought(server, "hog") == 503)
    assert bought(server, "fair") == 200
    until(lambda: any(report["rejected"] for _, report in collector.reports))


def sold_in_last(snapshots):
    """What the service's own counter was in the last snapshot of metrics."""
    (of_resource,) = ExportMetricsServiceRequest.FromString(snapshots[-1][0]).resource_metrics
    metrics = (metric for scope in of_resource.scope_metrics for metric in scope.metrics)
    return [m.sum.data_points[0].as_double for m in metrics if m.name.startswith("sold")]


@pytest.mark.parametrize("library", LIBRARIES)
def test_metrics_are_scraped_at_their_port_and_sent(serve, until, collector, library):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = serve(library, metrics_port=port)

    def scraped():
        with suppress(httpx.ConnectError):
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return ""

    assert bought(server, "ann") == 200
    until(lambda: "sold_total 1.0" in scraped())
    assert "heatshield_service_request_duration_seconds_count" in scraped()
    until(lambda: collector.snapshots)
    assert bought(server, "ann") == 200
    assert server.end() < 5
    assert sold_in_last(collector.snapshots) == [2.0]


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_is_said_that_telemetry_does_not_arrive(serve, library):
    server = serve(library, endpoint="http://127.0.0.1:9", flush_interval_s=0.01)
    assert bought(server, "ann") == 200
    lines = iter(server.process.stderr.readline, "")
    assert any("telemetry does not reach" in line for line in lines)
    assert bought(server, "ann") == 200


WORK_HANDED_ON = """
import threading
from concurrent.futures import ThreadPoolExecutor

def work():
    with heatshield.guard("work"):
        pass

with heatshield.guard("buy"), heatshield.user("ann"):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    ThreadPoolExecutor(1).submit(work).result()
print(heatshield.flush())
"""


@pytest.mark.parametrize("order", ["patched first", "patched later"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_work_that_is_handed_to_a_thread_is_the_users(run_python, collector, library, order):
    begin = (
        [PATCH[library], INSTRUMENT] if order == "patched first" else [INSTRUMENT, PATCH[library]]
    )
    done = run_python("".join(begin) + WORK_HANDED_ON, HEATSHIELD_SERVICE="shop")
    assert done.stdout == "True\n", done.stderr
    worked = [span for _, span in collector.spans if span.name == "work"]
    users = [a.value.string_value for span in worked for a in span.attributes if a.key == USER]
    assert users == ["ann", "ann"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_patches_later_finds_nothing_of_ours_to_complain_of(run_python, library):
    work = "with heatshield.guard('buy'): pass\nprint(heatshield.flush())"
    done = run_python(INSTRUMENT + PATCH[library] + work, HEATSHIELD_SERVICE="shop")
    assert done.stdout == "True\n"
    assert "not greened" not in done.stderr
    assert "MonkeyPatchWarning" not in done.stderr


@needs("gevent")
def test_gevent_waits_for_nothing_of_ours(run_python):
    wait = "with heatshield.guard('buy'): pass\nimport gevent\nprint(gevent.wait(timeout=20))"
    done = run_python(PATCH["gevent"] + INSTRUMENT + wait, HEATSHIELD_SERVICE="shop")
    assert done.stdout == "True\n", done.stderr
