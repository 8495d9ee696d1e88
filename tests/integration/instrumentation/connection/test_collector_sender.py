"""What is lost at the end of a process, and why it is said to be: the collector may well be up."""

import socket

import pytest
from collector_sockets import OK, answering, silent

from heatshield.clock import SystemClock
from heatshield.counters import COUNTERS
from heatshield.export.payloads import Payload
from heatshield.export.sender import Sender
from heatshield.process.wakeup import Wakeup
from heatshield.settings import ServiceSettings

SPANS = Payload("/v1/traces", b"spans", 3)


def broken(server, peer):
    """Takes a request and goes: a collector that closes what it finds idle."""
    server.read(peer)


@pytest.fixture
def drained():
    """Deliver a payload while the process ends; what was counted as lost."""

    def drain(endpoint, left_s=0.5):
        clock, draining = SystemClock(), Wakeup()
        settings = ServiceSettings(endpoint=endpoint)
        sender = Sender(settings, clock, Wakeup(), draining, lambda: 0.0)
        sender.take(SPANS, False)  # a callback
        sender.ends_at = clock.monotonic() + left_s
        draining.set()
        before = COUNTERS.dropped
        sender.deliver(meanwhile=bool)
        return {
            k: n - before.get(k, 0) for k, n in COUNTERS.dropped.items() if n > before.get(k, 0)
        }

    return drain


def test_a_collector_that_takes_too_long_is_not_unreachable(serve, drained):
    assert drained(serve(silent).endpoint) == {"unanswered": 3}


def test_a_collector_that_breaks_off_is_asked_once_more(serve, drained):
    server = serve(broken, answering(OK))
    assert drained(server.endpoint) == {}
    assert [request.endswith(b"spans") for request in server.requests] == [True, True]


def test_but_not_for_ever(serve, drained):
    server = serve(broken)
    assert drained(server.endpoint) == {"unanswered": 3}
    assert len(server.requests) == 2


def test_a_collector_that_is_not_there_is_unreachable_and_not_asked_again(drained):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert drained(f"http://127.0.0.1:{port}") == {"unreachable": 3}
