"""One setting switches local breakers on: what ``instrument()`` brings in, in a process apart."""

import json
import socket

import pytest

SERVICE = """
import json, time
import heatshield
{early}
heatshield.instrument(service="gateway", {settings})
{late}
from redis.backoff import NoBackoff
from redis.retry import Retry

PORT = {port}
cache = redis.Redis(port=PORT, retry=Retry(NoBackoff(), 0))
method = grpc.insecure_channel(f"127.0.0.1:{{PORT}}").unary_unary("/shop.Shop/U")
calls = {{
    "httpx": lambda: httpx.get(f"http://127.0.0.1:{{PORT}}/"),
    "requests": lambda: requests.get(f"http://127.0.0.1:{{PORT}}/"),
    "grpc": lambda: method(b"", timeout=1),
    "redis": lambda: cache.get("k"),
}}
entries = dict.fromkeys(calls)

def call(times):
    for library in calls:
        for _ in range(times):
            try:
                calls[library]()
            except heatshield.BreakerOpen as refusal:
                entries[library] = refusal.entry_id
            except Exception:
                pass  # nobody is there

call(10)
time.sleep(1.05)  # the window is looked at once a second
call(2)
status = heatshield.status()
mine = {{k: v for k, v in status["integrations"].items() if k.startswith("downstream_")}}
print(json.dumps({{"entries": entries, "integrations": mine, "errors": status["errors"]}}))
heatshield.shutdown()
"""

IMPORTS = "import httpx, requests, grpc, redis"


@pytest.fixture
def nobody():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def run(run_python, nobody, early, late, settings):
    code = SERVICE.format(early=early, late=late, settings=settings, port=nobody)
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == {}
    return found


@pytest.mark.parametrize(("early", "late"), [(IMPORTS, ""), ("", IMPORTS)])
def test_every_client_has_local_breakers_whenever_it_was_imported(
    run_python, collector, plain, nobody, early, late
):
    found = run(run_python, nobody, early, late, "local_breakers=True")
    peer = f"127.0.0.1:{nobody}"
    assert found["entries"] == {
        "httpx": f"local:{peer}:GET",
        "requests": f"local:{peer}:GET",
        "grpc": f"local:{peer}:shop.Shop/U",
        "redis": f"local:localhost:{nobody}:GET",
    }
    assert set(found["integrations"].values()) == {"active"}
    marked = [plain(s.attributes).get("heatshield.rejected") for _, s in collector.spans]
    assert f"local:{peer}:GET" in marked  # on the client's span, so that it is no error
    assert f"local:localhost:{nobody}:GET" in marked


@pytest.mark.parametrize("settings", ["", "local_breakers=True, enforce=False"])
def test_by_default_and_with_the_kill_switch_nothing_is_refused(run_python, nobody, settings):
    found = run(run_python, nobody, IMPORTS, "", settings)
    assert set(found["entries"].values()) == {None}


def test_one_can_be_left_out_by_its_name(run_python, nobody):
    settings = "local_breakers=True, disabled=('downstream_redis',)"
    found = run(run_python, nobody, IMPORTS, "", settings)
    assert found["entries"]["redis"] is None
    assert found["entries"]["httpx"] is not None
    assert found["integrations"]["downstream_redis"] == "disabled"
