"""gRPC: a tripped user is refused before the handler, and the refusal is one everywhere."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_peers import (
    ASYNC,
    CALL,
    SYNC,
    USER,
    Limiting,
    Naming,
    NamingAsync,
    Swallowing,
    aio_server,
    ask,
    ask_async,
    ask_patiently,
    both_ends,
    check_refusal,
    echo,
    echo_async,
    handlers,
    sync_server,
)
from opentelemetry.trace import SpanKind, StatusCode

import heatshield
from heatshield.names import REJECTED


@pytest.mark.parametrize("name", SYNC)
def test_a_tripped_user_is_refused_before_the_handler(shop, until, name):
    entry_id = shop.trip("u-7", CALL + name)
    with sync_server(**{name: lambda *_: pytest.fail("it ran")}) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, name)
        until(lambda: len(shop.spans) == 2)
    check_refusal(raised.value, entry_id)
    for span in both_ends(shop, name):
        assert span.attributes[REJECTED] == entry_id
        assert span.status_code is StatusCode.UNSET


@pytest.mark.parametrize("name", ASYNC)
def test_a_tripped_user_is_refused_before_the_handler_on_aio(shop, until, name):
    entry_id = shop.trip("u-7", CALL + name)
    ran = []

    async def unary(request, _context):
        ran.append(request)

    async def stream(request, _context):
        ran.append(request)
        yield b""

    async def main():
        handler = stream if name in "TB" else unary
        async with aio_server(**{name: handler}) as channel:
            with pytest.raises(grpc.RpcError) as raised:
                await ask_patiently(channel, name)
            check_refusal(raised.value, entry_id)
            await asyncio.to_thread(until, lambda: len(shop.spans) == 2)

    asyncio.run(main())
    assert not ran
    for span in both_ends(shop, name):
        assert span.attributes[REJECTED] == entry_id
        assert span.status_code is StatusCode.UNSET


def test_others_are_served(shop):
    shop.trip("u-7", CALL + "U")
    with sync_server(**SYNC) as channel:
        assert ask(channel, "U", metadata=(("x-user-id", "u-8"),)) == b"a"
        assert ask(channel, "U", metadata=None) == b"a"


def test_a_refusal_within_the_handler_is_one_of_the_call(shop, until):
    """A guard's, and one that another service answered over gRPC."""

    def guarded(_request, _context):
        with heatshield.guard("report"):
            return b""

    async def guarded_stream(_request, _context):
        yield b"1"
        with heatshield.guard("report"):
            yield b"2"

    entry_id = shop.trip("u-7", "report")
    with (
        sync_server(Ug=guarded) as channel,
        sync_server(Un=lambda *_: ask(channel, "Ug", metadata=None)) as nearer,
    ):
        with pytest.raises(grpc.RpcError) as raised:
            ask(nearer, "Un")
        check_refusal(raised.value, entry_id)
        until(lambda: len(shop.spans) == 5)
    assert all(span.attributes[REJECTED] == entry_id for span in shop.spans)
    assert all(span.status_code is StatusCode.UNSET for span in shop.spans)

    async def main():
        async with aio_server(Tg=guarded_stream) as channel:
            stream = aiter(channel.unary_stream(f"/{CALL}Tg")(b"", metadata=USER))
            assert await anext(stream) == b"1"
            with pytest.raises(grpc.RpcError) as raised:
                await anext(stream)
            check_refusal(raised.value, entry_id)

    asyncio.run(main())


def test_the_services_own_trailing_metadata_is_kept(shop):
    def refused(_request, context):
        context.set_trailing_metadata((("x-mine", "1"),))
        raise heatshield.BreakerOpen("b-9", 3.0)

    with sync_server(Ur=refused) as channel, pytest.raises(grpc.RpcError) as raised:
        ask(channel, "Ur")
    trailing = dict(raised.value.trailing_metadata())
    assert (trailing["x-mine"], trailing["retry-after"]) == ("1", "3")


def test_grpc_itself_does_not_retry_a_refusal(shop):
    """A client's service config may retry UNAVAILABLE; the server asks it not to."""
    tries = []

    def refused(_request, _context):
        tries.append(1)
        raise heatshield.BreakerOpen("b-9")

    def down(_request, context):
        tries.append(1)
        context.abort(grpc.StatusCode.UNAVAILABLE, "down")

    policy = {
        "methodConfig": [
            {
                "name": [{"service": "shop.Shop"}],
                "retryPolicy": {
                    "maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
                    "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }  # fmt: skip
    server = grpc.server(ThreadPoolExecutor(2), (handlers(Ur=refused, Ud=down),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    options = [("grpc.service_config", json.dumps(policy))]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        for name, expected in (("Ud", 3), ("Ur", 1)):
            tries.clear()
            with pytest.raises(grpc.RpcError):
                ask(channel, name)
            assert len(tries) == expected
    server.stop(0).wait()


def test_an_interceptor_may_name_the_user_and_then_the_handler_does_not_run(shop):
    entry_id = shop.trip("u-9", CALL + "U")
    ticket = (("x-ticket", "u-9"),)

    def ran(*_):
        pytest.fail("it ran")

    with sync_server(interceptors=[Naming()], U=ran) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U", metadata=ticket)
        check_refusal(raised.value, entry_id)

    async def main():
        async with aio_server(interceptors=[NamingAsync()], U=echo_async) as channel:
            with pytest.raises(grpc.RpcError) as raised:
                await ask_async(channel, "U", metadata=ticket)
            check_refusal(raised.value, entry_id)

    asyncio.run(main())
    assert {span.user for span in shop.spans if span.kind is SpanKind.SERVER} == {"u-9"}


def test_a_refusal_passes_an_interceptor_that_answers_for_errors(shop):
    entry_id = shop.trip("u-7", CALL + "U")
    with sync_server(interceptors=[Swallowing()], U=echo) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U")
        check_refusal(raised.value, entry_id)


def test_an_interceptor_may_refuse(shop, until):
    with sync_server(interceptors=[Limiting()], U=echo) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U")
        check_refusal(raised.value, "b-5")
        until(lambda: len(shop.spans) == 2)
    server = both_ends(shop, "U")[1]
    assert (server.attributes[REJECTED], server.status_code) == ("b-5", StatusCode.UNSET)
    assert server.attributes["rpc.grpc.status_code"] == 14
