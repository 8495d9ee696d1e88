"""A service with a wrong endpoint goes on, and says so once on stderr."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from heatshield.cli.client import Collector
from heatshield.cli.errors import CollectorUnreachable

SERVICE = """
import heatshield, sys
heatshield.instrument(endpoint=sys.argv[1])
with heatshield.guard("sell"):
    pass
heatshield.flush()
print("served")
"""


@pytest.fixture
def grpc_port():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def said_of(run_python, endpoint, service="shop"):
    code = SERVICE.replace("sys.argv[1]", repr(endpoint))
    done = run_python(code, HEATSHIELD_SERVICE=service, HEATSHIELD_FLUSH_INTERVAL_S="0.01")
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("endpoint", "instead"),
    [
        ("localhost:4318", "say http://localhost:4318"),
        ("ftp://collector", "say http://collector"),
        ("http://127.0.0.1:9/v1/traces", "say http://127.0.0.1:9"),
    ],
)
def test_what_can_be_no_collector_is_said_with_what_to_say_instead(run_python, endpoint, instead):
    lines = said_of(run_python, endpoint)
    assert sum(instead in line for line in lines) == 1, lines


def test_a_port_where_nobody_listens_is_said_once(run_python):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (line,) = said_of(run_python, f"http://127.0.0.1:{port}")
    assert f"does not reach the heatshield collector at http://127.0.0.1:{port}" in line
    assert "refused" in line.lower()


def test_the_port_for_grpc_is_called_by_its_name(run_python, grpc_port):
    (line,) = said_of(run_python, f"http://127.0.0.1:{grpc_port}")
    assert "gRPC" in line
    assert "4318" in line
    with pytest.raises(CollectorUnreachable, match="gRPC"):
        Collector(f"http://127.0.0.1:{grpc_port}").probe("/healthz")


def test_a_service_without_a_name_is_told_what_that_means(run_python, collector):
    (line,) = said_of(run_python, collector.endpoint, service="")
    assert "HEATSHIELD_SERVICE" in line
