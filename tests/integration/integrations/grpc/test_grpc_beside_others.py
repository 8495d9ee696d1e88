"""gRPC beside OpenTelemetry's own instrumentation, an SDK, and other interceptors."""

import asyncio

import grpc
import pytest
from grpc_peers import (
    ANSWERS,
    ASYNC,
    CALL,
    SYNC,
    WITH_AN_SDK,
    Answering,
    Refusing,
    aio_server,
    ask,
    ask_async,
    check_refusal,
    echo_async,
    sync_server,
)
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

import heatshield
from heatshield.names import REJECTED


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_where_the_service_has_opentelemetrys_nothing_is_doubled(
    service, opentelemetry, until, first
):
    if first == "theirs":
        opentelemetry()
    shop = service(user_header="x-user-id")
    if first == "ours":
        opentelemetry()
    entry_id = shop.trip("u-8", CALL + "U")
    with sync_server(**SYNC) as channel:
        assert ask(channel, "U") == b"a"
        until(lambda: len(shop.spans) == 2)
        (server,) = [span for span in shop.spans if span.kind is SpanKind.SERVER]
        assert (server.user, server.call) == ("u-7", CALL + "U")
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U", metadata=(("x-user-id", "u-8"),))
        check_refusal(raised.value, entry_id)
        until(lambda: len(shop.spans) == 4)
    assert all(span.attributes[REJECTED] == entry_id for span in shop.spans[2:])

    async def main():
        async with aio_server(**ASYNC) as channel:
            assert await ask_async(channel, "U") == b"a"
            assert await ask_async(channel, "B") == ANSWERS["B"]
            await asyncio.to_thread(until, lambda: len(shop.spans) == 8)

    asyncio.run(main())


def test_spans_of_the_services_own_sdk_get_user_and_call(run_python, collector, plain, until):
    assert run_python(WITH_AN_SDK).returncode == 0
    until(lambda: len(collector.spans) == 2)
    (server,) = [span for _, span in collector.spans if span.kind == span.SPAN_KIND_SERVER]
    attributes = plain(server.attributes)
    assert (attributes["enduser.id"], attributes["heatshield.call"]) == ("u-7", CALL + "U")
    assert server.name == CALL + "U"


# -- the rest --------------------------------------------------------------------------------------


def test_b3_from_elsewhere_is_understood_and_a_copied_header_replaced(shop, until):
    b3 = (("x-b3-traceid", "00000000000000ab"), ("x-b3-spanid", "00000000000000cd"))
    copied = (("traceparent", f"00-{0xAB:032x}-{0xCD:016x}-01"), *b3)
    arrived = []

    def note(_request, context):
        arrived.extend(value for name, value in context.invocation_metadata() if "b3" in name)
        return b""

    with (
        sync_server(U=note) as inner,
        sync_server(U=lambda *_: ask(inner, "U", metadata=copied)) as outer,
    ):
        with suppress_instrumentation():  # as if the first client were another process
            ask(outer, "U", metadata=b3)
        until(lambda: len(shop.spans) == 3)
    client = next(span for span in shop.spans if span.kind is SpanKind.CLIENT)
    first = next(span for span in shop.spans if span.span_id == client.parent_id)
    second = next(span for span in shop.spans if span.parent_id == client.span_id)
    assert (first.trace_id, first.parent_id) == (0xAB, 0xCD)
    assert client.trace_id == second.trace_id == 0xAB
    assert arrived == [f"{0xAB:032x}", f"{client.span_id:016x}", "1"]


@pytest.mark.parametrize("interceptor", [Answering(), Refusing()])
def test_a_call_through_an_interceptor_of_the_services_own_ends(shop, until, interceptor):
    async def main():
        async with aio_server(U=echo_async) as channel:
            channel._unary_unary_interceptors.append(interceptor)
            if isinstance(interceptor, Refusing):
                with pytest.raises(heatshield.BreakerOpen):
                    await ask_async(channel, "U")
            else:
                assert await ask_async(channel, "U") == b"a"
            clients = [SpanKind.CLIENT]
            await asyncio.to_thread(
                until, lambda: [s.kind for s in shop.spans if s.kind is SpanKind.CLIENT] == clients
            )

    asyncio.run(main())
    (client,) = [span for span in shop.spans if span.kind is SpanKind.CLIENT]
    refused = "local:b-1" if isinstance(interceptor, Refusing) else None
    assert client.attributes.get(REJECTED) == refused
    assert client.status_code is StatusCode.UNSET
