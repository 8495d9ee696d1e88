"""gRPC clients, sync and aio, against a real server: local breakers, deadlines, retry budgets."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest
import stamina

import heatshield
from heatshield.clock import ManualClock
from heatshield.context.deadline import DeadlineScope
from heatshield.counters import COUNTERS
from heatshield.integrations.rpc import downstream_grpc
from heatshield.resilience.attempts import RETRIES, Retries
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.resilience.local_breaker import State
from heatshield.settings import ServiceSettings

SHOP = "shop.Shop"


class Shop:
    """A real server whose four kinds of methods end with ``code`` and ``metadata``."""

    def __init__(self):
        self.code, self.metadata, self.delay_s = grpc.StatusCode.OK, (), 0.0
        self.left_s = []
        self.server = grpc.server(ThreadPoolExecutor(8))
        makers = {
            "U": (grpc.unary_unary_rpc_method_handler, self.one),
            "F": (grpc.stream_unary_rpc_method_handler, self.one),
            "T": (grpc.unary_stream_rpc_method_handler, self.many),
            "B": (grpc.stream_stream_rpc_method_handler, self.many),
        }
        methods = {name: make(behavior) for name, (make, behavior) in makers.items()}
        generic = grpc.method_handlers_generic_handler(SHOP, methods)
        self.server.add_generic_rpc_handlers((generic,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.peer = f"127.0.0.1:{port}"
        self.server.start()

    def one(self, request, context):
        if not isinstance(request, bytes):
            assert list(request) == [b"x"]
        self.left_s.append(context.time_remaining())
        time.sleep(self.delay_s)
        context.set_trailing_metadata(self.metadata)
        if self.code is not grpc.StatusCode.OK:
            context.abort(self.code, "as told")
        return b"answer"

    def many(self, request, context):
        yield self.one(request, context)

    @property
    def calls(self):
        return len(self.left_s)


@pytest.fixture
def shop():
    made = Shop()
    yield made
    made.server.stop(0).wait()


@pytest.fixture
def clock(monkeypatch):
    stamina.instrumentation.set_on_retry_hooks([])
    for name, value in vars(Retries()).items():
        monkeypatch.setattr(RETRIES, name, value)
    yield ManualClock()
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def install(clock):
    def installed(**settings):
        downstream_grpc.install(SimpleNamespace(settings=ServiceSettings(**settings)))
        DOWNSTREAM.monotonic = RETRIES.monotonic = clock.monotonic

    before = COUNTERS.errors
    yield installed
    downstream_grpc.remove()
    assert COUNTERS.errors == before


def stub(channel, method):
    kinds = {
        "U": channel.unary_unary, "F": channel.stream_unary,
        "T": channel.unary_stream, "B": channel.stream_stream,
    }  # fmt: skip
    return kinds[method](f"/{SHOP}/{method}")


def blocking(shop, method="U", timeout=None):
    with grpc.insecure_channel(shop.peer) as channel:
        request = b"x" if method in "UT" else iter([b"x"])
        answer = stub(channel, method)(request, timeout=timeout)
        return answer if method in "UF" else b"".join(answer)


def with_call(shop, method="U", timeout=None):
    with grpc.insecure_channel(shop.peer) as channel:
        request = b"x" if method in "UT" else iter([b"x"])
        if method in "TB":
            return b"".join(stub(channel, method)(request, timeout))
        return stub(channel, method).with_call(request, timeout)[0]


def future(shop, method="U", timeout=None):
    with grpc.insecure_channel(shop.peer) as channel:
        request = b"x" if method in "UT" else iter([b"x"])
        if method in "TB":
            return b"".join(stub(channel, method)(request, timeout))
        return stub(channel, method).future(request, timeout=timeout).result()


def by_aio(shop, method="U", timeout=None):
    async def main():
        async with grpc.aio.insecure_channel(shop.peer) as channel:
            request = b"x" if method in "UT" else iter([b"x"])
            call = stub(channel, method)(request, timeout=timeout)
            return await call if method in "UF" else b"".join([part async for part in call])

    return asyncio.run(main())


ways = pytest.mark.parametrize("call", [blocking, with_call, future, by_aio])
methods = pytest.mark.parametrize("method", ["U", "F", "T", "B"])


def settled(condition):
    """Callbacks of ended calls run in a thread of gRPC's."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def fail(call, shop, method, times):
    for _ in range(times):
        with pytest.raises(grpc.RpcError) as error:
            call(shop, method)
        assert error.value.code() is shop.code


def heard():
    """Outcomes that the only breaker has been told of, or more exactly its current bucket."""
    (breaker,) = DOWNSTREAM._breakers._breakers.values()
    return breaker._window._requests


def trip(call, shop, clock, method, code=grpc.StatusCode.UNAVAILABLE):
    shop.code = code
    fail(call, shop, method, 10)
    settled(lambda: heard() == 10)
    clock.advance(1)
    fail(call, shop, method, 1)
    settled(lambda: DOWNSTREAM.states()[0].state is State.OPEN)


@ways
@methods
def test_a_peer_that_fails_is_left_alone_tried_and_taken_back(call, method, shop, clock, install):
    install(local_breakers=True)
    trip(call, shop, clock, method)
    calls = shop.calls
    with pytest.raises(heatshield.BreakerOpen) as refusal:
        call(shop, method)
    assert shop.calls == calls
    assert refusal.value.entry_id == f"local:{shop.peer}:{SHOP}/{method}"
    clock.advance(12)
    shop.code = grpc.StatusCode.OK
    assert call(shop, method) == b"answer"
    settled(lambda: DOWNSTREAM.states()[0].state is State.CLOSED)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ],
)
def test_what_servers_in_trouble_answer_is_a_failure(code, shop, clock, install):
    install(local_breakers=True)
    trip(blocking, shop, clock, "U", code)


@ways
@pytest.mark.parametrize(
    ("code", "metadata"),
    [
        (grpc.StatusCode.UNAVAILABLE, (("heatshield-breaker", "b-1"),)),
        (grpc.StatusCode.DEADLINE_EXCEEDED, (("heatshield-deadline", "0"),)),
        (grpc.StatusCode.NOT_FOUND, ()),
        (grpc.StatusCode.UNIMPLEMENTED, ()),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ()),
    ],
)
def test_rejections_expiries_and_other_answers_are_no_failures(
    call, code, metadata, shop, clock, install
):
    install(local_breakers=True)
    shop.code, shop.metadata = code, metadata
    for again in (10, 1):
        fail(call, shop, "U", again)
        clock.advance(1)
    (state,) = DOWNSTREAM.states()
    assert (state.state, state.failures) == (State.CLOSED, 0)


def test_a_call_that_is_cancelled_says_nothing(shop, clock, install):
    install(local_breakers=True)
    shop.delay_s = 0.2
    with grpc.insecure_channel(shop.peer) as channel:
        call = stub(channel, "U").future(b"x")
        call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result()
    clock.advance(1)
    assert heard() == 0


@ways
@methods
def test_the_time_left_is_the_timeout_of_the_call(call, method, shop, clock, install):
    install()
    with DeadlineScope(30, clock.monotonic):
        call(shop, method)
        assert 25 < shop.left_s[-1] < 31  # gRPC rounds up
        call(shop, method, 60)
        assert 25 < shop.left_s[-1] < 31  # gRPC rounds up
        call(shop, method, 10)
        assert 5 < shop.left_s[-1] < 11
    call(shop, method, 60)
    assert shop.left_s[-1] > 50


@ways
@methods
def test_an_expired_request_is_not_started(call, method, shop, clock, install):
    install()
    with DeadlineScope(-1, clock.monotonic), pytest.raises(heatshield.DeadlineExceeded, match=SHOP):
        call(shop, method)
    assert shop.calls == 0


@ways
def test_short_deadlines_of_one_caller_do_not_break_the_peer_for_all(call, shop, clock, install):
    install(local_breakers=True)
    shop.delay_s = 0.3
    for _ in range(12):
        clock.advance(0.2)
        with DeadlineScope(0.02, clock.monotonic), pytest.raises(grpc.RpcError):
            call(shop)
    (state,) = DOWNSTREAM.states()
    assert (state.state, state.requests) == (State.CLOSED, 0)


def test_stamina_retries_within_the_budget_of_the_peer(shop, clock, install):
    install()
    shop.code = grpc.StatusCode.UNAVAILABLE

    @stamina.retry(on=heatshield.retry.on(grpc.RpcError), attempts=3)
    async def by_stamina(channel):
        return await stub(channel, "U")(b"x")

    async def main():
        async with grpc.aio.insecure_channel(shop.peer) as channel:
            with stamina.set_testing(True, attempts=3):
                for _ in range(100):
                    with pytest.raises(grpc.RpcError):
                        await by_stamina(channel)
                assert shop.calls - 100 <= 100 + 0.2 * 100
                shop.metadata = (("heatshield-breaker", "b-1"),)
                clock.advance(20)
                calls = shop.calls
                with pytest.raises(grpc.RpcError):
                    await by_stamina(channel)
                assert shop.calls == calls + 1  # a rejection is never retried

    asyncio.run(main())


def test_removing_puts_everything_back(install):
    from grpc._channel import _UnaryUnaryMultiCallable as Stub

    before = Stub.__call__
    install(local_breakers=True)
    assert Stub.__call__ is not before
    downstream_grpc.remove()
    assert Stub.__call__ is before
