"""gRPC with real servers and channels on loopback: spans, users, refusals; nothing else changes."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from opentelemetry.instrumentation.grpc import (
    GrpcAioInstrumentorClient,
    GrpcAioInstrumentorServer,
    GrpcInstrumentorClient,
    GrpcInstrumentorServer,
)
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import heatshield
from heatshield.context.request import request_in
from heatshield.names import BREAKER_HEADER, COST_ELEMENTS, REJECTED

UNARY, FROM_STREAM, TO_STREAM, BOTH = "U", "F", "T", "B"
CALL = "shop.Shop/"
USER = (("x-user-id", "u-7"),)


def handlers(**behaviors):
    """A service ``shop.Shop`` of handlers that take and give bytes."""
    makers = {
        UNARY: grpc.unary_unary_rpc_method_handler,
        FROM_STREAM: grpc.stream_unary_rpc_method_handler,
        TO_STREAM: grpc.unary_stream_rpc_method_handler,
        BOTH: grpc.stream_stream_rpc_method_handler,
    }
    made = {name: makers[name[0]](behavior) for name, behavior in behaviors.items()}
    return grpc.method_handlers_generic_handler("shop.Shop", made)


@contextmanager
def sync_server(*args, interceptors=(), **behaviors):
    server = grpc.server(ThreadPoolExecutor(4), *args, interceptors=interceptors)
    server.add_generic_rpc_handlers((handlers(**behaviors),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.stop(0).wait()


@asynccontextmanager
async def aio_server(*args, interceptors=(), **behaviors):
    server = grpc.aio.server(*(args or (ThreadPoolExecutor(2),)), interceptors=interceptors)
    server.add_generic_rpc_handlers((handlers(**behaviors),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.address = f"127.0.0.1:{port}"
            yield channel
    finally:
        await server.stop(0)


def echo(request, _context):
    return request


def count(requests, _context):
    return str(len(list(requests))).encode()


def three(_request, _context):
    yield from (b"1", b"2", b"3")


def each(requests, _context):
    yield from requests


async def echo_async(request, _context):
    return request


async def count_async(requests, _context):
    return str(len([one async for one in requests])).encode()


async def three_async(_request, _context):
    for one in (b"1", b"2", b"3"):
        yield one


async def each_async(requests, _context):
    async for one in requests:
        yield one


SYNC = {"U": echo, "F": count, "T": three, "B": each}
ASYNC = {"U": echo_async, "F": count_async, "T": three_async, "B": each_async}

TWO = (b"a", b"b")
ANSWERS = {"U": b"a", "F": b"2", "T": [b"1", b"2", b"3"], "B": [b"a", b"b"]}


def ask(channel, name, metadata=USER):
    """Call a method as its kind wants to be; what it answers."""
    path = f"/{CALL}{name}"
    if name[0] == UNARY:
        return channel.unary_unary(path)(b"a", metadata=metadata)
    if name[0] == FROM_STREAM:
        return channel.stream_unary(path)(iter(TWO), metadata=metadata)
    if name[0] == TO_STREAM:
        return list(channel.unary_stream(path)(b"a", metadata=metadata))
    return list(channel.stream_stream(path)(iter(TWO), metadata=metadata))


async def ask_async(channel, name, metadata=USER):
    path = f"/{CALL}{name}"
    if name[0] == UNARY:
        return await channel.unary_unary(path)(b"a", metadata=metadata)
    if name[0] == FROM_STREAM:
        return await channel.stream_unary(path)(iter(TWO), metadata=metadata)
    if name[0] == TO_STREAM:
        return [one async for one in channel.unary_stream(path)(b"a", metadata=metadata)]
    return [one async for one in channel.stream_stream(path)(iter(TWO), metadata=metadata)]


def both_ends(made, name):
    """The client's and the server's span of a call."""
    spans = {span.kind: span for span in made.spans if span.name == CALL + name}
    assert len(spans) == len([span for span in made.spans if span.name == CALL + name])
    return spans[SpanKind.CLIENT], spans[SpanKind.SERVER]


@pytest.fixture
def shop(service):
    return service(user_header="X-User-Id")


@pytest.mark.parametrize("name", SYNC)
def test_a_sync_call_has_two_spans_of_one_trace_with_its_user(shop, until, name):
    with sync_server(**SYNC) as channel:
        assert ask(channel, name) == ANSWERS[name]
        until(lambda: len(shop.spans) == 2)
    client, server = both_ends(shop, name)
    assert (server.trace_id, server.parent_id) == (client.trace_id, client.span_id)
    assert (server.user, server.call) == ("u-7", CALL + name)
    assert server.attributes["rpc.service"] == "shop.Shop"
    assert server.attributes["rpc.method"] == name
    assert server.attributes["client.address"] == "127.0.0.1"
    assert client.attributes["server.address"] == "127.0.0.1"
    assert client.attributes["server.port"] > 0
    for span in (client, server):
        assert span.attributes["rpc.grpc.status_code"] == 0
        assert span.status_code is StatusCode.UNSET


@pytest.mark.parametrize("name", ASYNC)
def test_an_aio_call_has_two_spans_of_one_trace_with_its_user(shop, until, name):
    async def main():
        async with aio_server(**ASYNC) as channel:
            assert await ask_async(channel, name) == ANSWERS[name]
            await asyncio.to_thread(until, lambda: len(shop.spans) == 2)

    asyncio.run(main())
    client, server = both_ends(shop, name)
    assert (server.trace_id, server.parent_id) == (client.trace_id, client.span_id)
    assert (server.user, server.call) == ("u-7", CALL + name)
    for span in (client, server):
        assert span.attributes["rpc.grpc.status_code"] == 0


def test_messages_of_streams_are_counted_as_elements(shop, until):
    with sync_server(**SYNC) as channel:
        for name in SYNC:
            ask(channel, name)
        until(lambda: len(shop.spans) == 2 * len(SYNC))
    costs = {name: both_ends(shop, name)[1].attributes.get(COST_ELEMENTS) for name in SYNC}
    assert costs == {"U": None, "F": 2, "T": 3, "B": 4}


def test_what_a_handler_of_aio_may_be_still_works(shop, until):
    """Written through the context, or plain functions in threads: OpenTelemetry breaks both."""

    async def by_context(_request, context):
        assert request_in().user == "u-7"
        await context.write(b"1")

    def plain(request, _context):
        assert request_in().user == "u-7"
        return request

    def plain_stream(_request, _context):
        assert request_in().user == "u-7"
        yield b"1"

    async def main():
        async with aio_server(Tw=by_context, Up=plain, Tp=plain_stream) as channel:
            assert await ask_async(channel, "Tw") == [b"1"]
            assert await ask_async(channel, "Up") == b"a"
            assert await ask_async(channel, "Tp") == [b"1"]
            await asyncio.to_thread(until, lambda: len(shop.spans) == 6)

    asyncio.run(main())


def test_a_call_that_goes_on_is_the_librarys_own(shop, until):
    """A stream can be cancelled, a future waited for, and duplicate metadata arrive."""
    seen = []

    def endless(_request, context):
        seen.extend(v for k, v in context.invocation_metadata() if k == "x-tag")
        while context.is_active():
            yield b"."

    twice = (("x-tag", "1"), ("x-tag", "2"))
    with sync_server(U=echo, Te=endless) as channel:
        future = channel.unary_unary(f"/{CALL}U").future(b"a")
        assert future.result(5) == b"a"
        answer, call = channel.unary_unary(f"/{CALL}U").with_call(b"a", 5, twice)
        assert (answer, call.code()) == (b"a", grpc.StatusCode.OK)
        stream = channel.unary_stream(f"/{CALL}Te")(b"a", 5, twice)
        assert next(stream) == b"."
        assert seen == ["1", "2"]
        stream.cancel()
        until(lambda: len(shop.spans) == 6)
    client, server = both_ends(shop, "Te")
    assert client.attributes["rpc.grpc.status_code"] == 1
    assert server.status_code is StatusCode.UNSET


def test_the_context_of_a_request_surrounds_each_step_of_a_stream(shop, until):
    seen = []

    def steps(_request, _context):
        for _ in range(2):
            seen.append((get_current_span().name, request_in().user))
            yield b"."

    async def steps_async(_request, _context):
        for _ in range(2):
            seen.append((get_current_span().name, request_in().user))
            yield b"."

    with sync_server(Ts=steps) as channel:
        ask(channel, "Ts")

    async def main():
        async with aio_server(Ts=steps_async) as channel:
            await ask_async(channel, "Ts")

    asyncio.run(main())
    assert seen == [(f"{CALL}Ts", "u-7")] * 4
    until(lambda: len(shop.spans) == 4)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("shop:50051", ("shop", 50051)),
        ("dns:///shop.internal:50051", ("shop.internal", 50051)),
        ("dns:shop:50051", ("shop", 50051)),
        ("ipv6:[::1]:50051", ("::1", 50051)),
        ("unix:/run/shop.sock", ("/run/shop.sock", None)),
        ("shop", ("shop", None)),
    ],
)
def test_a_client_span_names_the_server_that_its_channel_was_made_for(
    shop, until, target, expected
):
    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{CALL}U")(b"", timeout=0.0)
    (span,) = until(lambda: shop.spans)
    said = (span.attributes["server.address"], span.attributes.get("server.port"))
    assert said == expected


# -- errors ----------------------------------------------------------------------------------------


def test_a_handler_that_fails_is_an_error_and_one_that_says_no_is_none(shop, until):
    def broken(_request, _context):
        raise ValueError("no stock")

    def missing(_request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such sticker")

    with sync_server(Ub=broken, Um=missing) as channel:
        for name, code in (("Ub", grpc.StatusCode.UNKNOWN), ("Um", grpc.StatusCode.NOT_FOUND)):
            with pytest.raises(grpc.RpcError) as raised:
                ask(channel, name)
            assert raised.value.code() is code
        until(lambda: len(shop.spans) == 4)
    client, server = both_ends(shop, "Ub")
    assert server.attributes["rpc.grpc.status_code"] == 2
    assert (server.status_code, client.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert [event.attributes["exception.message"] for event in server.events] == ["no stock"]
    client, server = both_ends(shop, "Um")
    assert server.attributes["rpc.grpc.status_code"] == 5
    assert (server.status_code, client.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert not server.events


def test_the_same_on_aio(shop, until):
    async def broken(_request, _context):
        raise ValueError("no stock")

    async def missing(_request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such sticker")

    async def main():
        async with aio_server(Ub=broken, Um=missing) as channel:
            for name in ("Ub", "Um"):
                with pytest.raises(grpc.RpcError):
                    await ask_async(channel, name)
            await asyncio.to_thread(until, lambda: len(shop.spans) == 4)

    asyncio.run(main())
    assert both_ends(shop, "Ub")[1].status_code is StatusCode.ERROR
    assert both_ends(shop, "Um")[1].status_code is StatusCode.UNSET
    assert both_ends(shop, "Um")[0].attributes["rpc.grpc.status_code"] == 5


def test_a_call_to_nobody_is_an_error_and_ends(shop, until):
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError):
        ask(channel, "U")
    (span,) = until(lambda: shop.spans)
    assert span.attributes["rpc.grpc.status_code"] == 14
    assert span.status_code is StatusCode.ERROR


# -- refusals --------------------------------------------------------------------------------------


def check_refusal(error, entry_id):
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    trailing = dict(error.trailing_metadata())
    assert trailing[BREAKER_HEADER] == entry_id
    assert int(trailing["retry-after"]) >= 1
    assert heatshield.is_rejection(error)
    with pytest.raises(heatshield.BreakerOpen) as raised:
        heatshield.raise_for_rejection(error)
    assert raised.value.entry_id == entry_id


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


async def ask_patiently(channel, name):
    """Ask; where requests are streamed, by a sync client: aio's sees a broken pipe at times."""

    def ask_anew():
        with grpc.insecure_channel(channel.address) as anew:
            ask(anew, name)

    if name in "UT":
        await ask_async(channel, name)
    else:
        await asyncio.to_thread(ask_anew)


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


# -- interceptors of the service's own -------------------------------------------------------------


class Naming(grpc.ServerInterceptor):
    """Names the user by a ticket, as an authentication would, before the handler."""

    def intercept_service(self, continuation, details):
        heatshield.user(dict(details.invocation_metadata)["x-ticket"])
        return continuation(details)


class NamingAsync(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        heatshield.user(dict(details.invocation_metadata)["x-ticket"])
        return await continuation(details)


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


class Swallowing(grpc.ServerInterceptor):
    """Answers INTERNAL for whatever its handlers raise, as many services do."""

    def intercept_service(self, continuation, details):
        handler = continuation(details)

        def behavior(request, context):
            try:
                return handler.unary_unary(request, context)
            except Exception:
                if context.code() is None:
                    context.abort(grpc.StatusCode.INTERNAL, "oops")
                raise

        return grpc.unary_unary_rpc_method_handler(behavior)


def test_a_refusal_passes_an_interceptor_that_answers_for_errors(shop):
    entry_id = shop.trip("u-7", CALL + "U")
    with sync_server(interceptors=[Swallowing()], U=echo) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U")
        check_refusal(raised.value, entry_id)


class Limiting(grpc.ServerInterceptor):
    """Raises a refusal before the handler, where only ours is further out."""

    def intercept_service(self, *_):
        def behavior(_request, _context):
            raise heatshield.BreakerOpen("b-5")

        return grpc.unary_unary_rpc_method_handler(behavior)


def test_an_interceptor_may_refuse(shop, until):
    with sync_server(interceptors=[Limiting()], U=echo) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            ask(channel, "U")
        check_refusal(raised.value, "b-5")
        until(lambda: len(shop.spans) == 2)
    server = both_ends(shop, "U")[1]
    assert (server.attributes[REJECTED], server.status_code) == ("b-5", StatusCode.UNSET)
    assert server.attributes["rpc.grpc.status_code"] == 14


def test_it_does_not_matter_how_a_server_is_made(shop, until):
    """By position, by keyword, by a name imported before; OpenTelemetry's raises for the first."""
    own = Naming()
    pool = ThreadPoolExecutor(2)
    make = grpc._server.create_server
    for server in (
        grpc.server(pool, (handlers(U=echo),), [own]),
        grpc.server(thread_pool=pool, handlers=(handlers(U=echo),), interceptors=(own,)),
        grpc.server(pool, (handlers(U=echo),)),
        make(pool, (handlers(U=echo),), iter([own]), (), None, None, False),
    ):
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        shop.spans.clear()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert ask(channel, "U", metadata=(("x-ticket", "u-9"),)) == b"a"
            until(lambda: len(shop.spans) == 2)
        server.stop(0).wait()


# -- beside OpenTelemetry's own --------------------------------------------------------------------


@pytest.fixture
def opentelemetry(request):
    """OpenTelemetry's instrumentations, activated before or after ours, as the test says."""
    kinds = (
        GrpcInstrumentorServer, GrpcInstrumentorClient,
        GrpcAioInstrumentorServer, GrpcAioInstrumentorClient,
    )  # fmt: skip

    def activate():
        for kind in kinds:
            kind().instrument(skip_dep_check=True)

    yield activate
    for kind in reversed(kinds):
        kind().uninstrument()


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


WITH_AN_SDK = """
from concurrent.futures import ThreadPoolExecutor
import grpc
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcInstrumentorServer
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
GrpcInstrumentorServer().instrument()
import heatshield
heatshield.instrument(service="shop", user_header="x-user-id")
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", {"U": echo}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    channel.unary_unary("/shop.Shop/U")(b"", metadata=(("x-user-id", "u-7"),))
server.stop(1).wait()
"""


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


class Answering(grpc.aio.UnaryUnaryClientInterceptor):
    """Waits for the answer and gives it instead of the call, as a cache would."""

    async def intercept_unary_unary(self, continuation, details, request):
        return await (await continuation(details, request))


class Refusing(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, *_):
        raise heatshield.BreakerOpen("local:b-1")


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


def test_excluded_paths_make_no_spans(service):
    made = service(excluded_paths=("/shop.Shop/U",))
    with sync_server(U=echo, F=count) as channel:
        ask(channel, "U")
        ask(channel, "F")
    assert [span.name for span in made.spans if span.kind is SpanKind.SERVER] == [CALL + "F"]


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


class Dawdling(grpc.ServerInterceptor):
    """Takes longer than its callers wait, by the runtime's clock too."""

    def __init__(self, clock):
        self.clock = clock

    def intercept_service(self, continuation, details):
        handler = continuation(details)

        def behavior(request, context):
            while context.is_active():
                pass
            self.clock.advance(0.1)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(behavior)


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


def test_taken_out_it_leaves_grpc_as_it_was(service):
    import grpc._channel as channels
    import grpc._server as servers

    before = (servers._Server.__init__, channels._UnaryUnaryMultiCallable.__call__)
    made = service()
    assert servers._Server.__init__ is not before[0]
    made.runtime.integrations.remove_all()
    assert (servers._Server.__init__, channels._UnaryUnaryMultiCallable.__call__) == before


PROGRAM = """
import heatshield
heatshield.instrument(service="shop")
import sys
assert "grpc" not in sys.modules
import grpc
print(heatshield.status()["integrations"]["grpc"])
"""


def test_it_comes_with_the_import_of_the_library(run_python):
    done = run_python(PROGRAM)
    assert done.stdout.strip() == "active", done.stderr
