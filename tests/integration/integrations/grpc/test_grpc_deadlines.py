"""gRPC: a caller's timeout is the request's deadline."""

import grpc
import pytest
from grpc_peers import CALL, Dawdling, ask, sync_server

import heatshield


def test_the_callers_patience_is_the_requests_deadline(shop):
    from heatshield.context.deadline import deadline_in

    left = []

    def see(_request, _context):
        left.append(deadline_in())
        return b""

    with sync_server(U=see) as channel:
        channel.unary_unary(f"/{CALL}U")(b"", timeout=30)
        channel.unary_unary(f"/{CALL}U")(b"")
    assert left[0] is not None
    assert left[1] is None


def test_a_handler_that_nobody_waits_for_does_not_start(shop, until):
    ran = []
    with sync_server(
        interceptors=[Dawdling(shop.clock)], U=lambda *_: ran.append(1) or b""
    ) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/{CALL}U")(b"", timeout=0.05)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: len(shop.spans) == 2)
    assert not ran


def test_a_handler_without_time_for_its_own_calls_says_so(shop):
    def hurried(_request, _context):
        raise heatshield.DeadlineExceeded("redis")

    with sync_server(Uh=hurried) as channel, pytest.raises(grpc.RpcError) as raised:
        ask(channel, "Uh")
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert dict(raised.value.trailing_metadata())["heatshield-deadline"] == "0"
