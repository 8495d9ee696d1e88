"""gRPC handlers, servers and channels on loopback, sync and aio, and a service's interceptors."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from opentelemetry.trace import SpanKind

import heatshield
from heatshield.names import BREAKER_HEADER

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


def check_refusal(error, entry_id):
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    trailing = dict(error.trailing_metadata())
    assert trailing[BREAKER_HEADER] == entry_id
    assert int(trailing["retry-after"]) >= 1
    assert heatshield.is_rejection(error)
    with pytest.raises(heatshield.BreakerOpen) as raised:
        heatshield.raise_for_rejection(error)
    assert raised.value.entry_id == entry_id


async def ask_patiently(channel, name):
    """Ask; where requests are streamed, by a sync client: aio's sees a broken pipe at times."""

    def ask_anew():
        with grpc.insecure_channel(channel.address) as anew:
            ask(anew, name)

    if name in "UT":
        await ask_async(channel, name)
    else:
        await asyncio.to_thread(ask_anew)


class Naming(grpc.ServerInterceptor):
    """Names the user by a ticket, as an authentication would, before the handler."""

    def intercept_service(self, continuation, details):
        heatshield.user(dict(details.invocation_metadata)["x-ticket"])
        return continuation(details)


class NamingAsync(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation, details):
        heatshield.user(dict(details.invocation_metadata)["x-ticket"])
        return await continuation(details)


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


class Limiting(grpc.ServerInterceptor):
    """Raises a refusal before the handler, where only ours is further out."""

    def intercept_service(self, *_):
        def behavior(_request, _context):
            raise heatshield.BreakerOpen("b-5")

        return grpc.unary_unary_rpc_method_handler(behavior)


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


class Answering(grpc.aio.UnaryUnaryClientInterceptor):
    """Waits for the answer and gives it instead of the call, as a cache would."""

    async def intercept_unary_unary(self, continuation, details, request):
        return await (await continuation(details, request))


class Refusing(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, *_):
        raise heatshield.BreakerOpen("local:b-1")


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


PROGRAM = """
import heatshield
heatshield.instrument(service="shop")
import sys
assert "grpc" not in sys.modules
import grpc
print(heatshield.status()["integrations"]["grpc"])
"""
