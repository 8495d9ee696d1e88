"""gRPC with real servers and channels on loopback: spans, users, costs, errors."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_peers import (
    ANSWERS,
    ASYNC,
    CALL,
    PROGRAM,
    SYNC,
    Naming,
    aio_server,
    ask,
    ask_async,
    both_ends,
    count,
    echo,
    handlers,
    sync_server,
)
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from heatshield.context.request import request_in
from heatshield.names import COST_ELEMENTS


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


def test_excluded_paths_make_no_spans(service):
    made = service(excluded_paths=("/shop.Shop/U",))
    with sync_server(U=echo, F=count) as channel:
        ask(channel, "U")
        ask(channel, "F")
    assert [span.name for span in made.spans if span.kind is SpanKind.SERVER] == [CALL + "F"]


def test_taken_out_it_leaves_grpc_as_it_was(service):
    import grpc._channel as channels
    import grpc._server as servers

    before = (servers._Server.__init__, channels._UnaryUnaryMultiCallable.__call__)
    made = service()
    assert servers._Server.__init__ is not before[0]
    made.runtime.integrations.remove_all()
    assert (servers._Server.__init__, channels._UnaryUnaryMultiCallable.__call__) == before


def test_it_comes_with_the_import_of_the_library(run_python):
    done = run_python(PROGRAM)
    assert done.stdout.strip() == "active", done.stderr
