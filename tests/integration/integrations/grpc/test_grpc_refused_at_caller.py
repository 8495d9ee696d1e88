"""A cut user's gRPC call does not travel where it is known to be tripped, sync and aio."""

import asyncio

import grpc
import pytest
from caller_behaviour import of_user
from grpc_peers import ASYNC, CALL, SYNC, aio_server, ask, ask_async, check_refusal, sync_server
from opentelemetry.trace import SpanKind

import heatshield
from heatshield.breakers.caller_gate import LEARNED_S
from heatshield.contract import BreakerEntry, PlatformMode, Snapshot, StateVersion
from heatshield.names import REJECTED

CUT = "u-cut"
KINDS = ("U", "F", "T", "B")


class Arrivals(grpc.ServerInterceptor):
    """What has reached a server."""

    def __init__(self):
        self.methods = []

    def intercept_service(self, continuation, details):
        self.methods.append(details.method)
        return continuation(details)


class AsyncArrivals(grpc.aio.ServerInterceptor):
    def __init__(self):
        self.methods = []

    async def intercept_service(self, continuation, details):
        self.methods.append(details.method)
        return await continuation(details)


@pytest.fixture
def caller(service):
    """This process, which is both ends; the table holds one entry for each kind of call."""
    made = service()
    entries = [
        BreakerEntry(f"b-{kind}", CUT, "shop", f"{CALL}{kind}", issuer="human:jo") for kind in KINDS
    ]
    made.runtime.table.apply(
        Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, tuple(entries)), made.clock.monotonic()
    )
    return made


def error_of(work):
    with pytest.raises(grpc.RpcError) as raised:
        work()
    return raised.value


def seen(error):
    """What a caller looks at."""
    pairs = {pair.key: pair.value for pair in error.trailing_metadata()}
    at = pairs.pop("heatshield-breaker-at", None)
    return at, error.code(), error.details(), pairs, tuple(error.initial_metadata() or ())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_call_does_not_travel_and_fails_as_the_one_that_did(caller, kind):
    arrivals = Arrivals()
    with sync_server(interceptors=[arrivals], **SYNC) as channel:
        travelled, *here = [
            error_of(lambda: of_user(CUT, lambda: ask(channel, kind, ()))) for _ in range(3)
        ]
        assert len(arrivals.methods) == 1
        for error in here:
            check_refusal(error, f"b-{kind}")
            assert type(error) is type(travelled)
            assert seen(error)[1:] == seen(travelled)[1:]
        of_user("u-other", lambda: ask(channel, kind, ()))
        ask(channel, kind, ())  # nobody acts
        for other in set(KINDS) - {kind}:
            of_user("u-other", lambda other=other: ask(channel, other, ()))
        assert len(arrivals.methods) == 6
    spans = [s for s in caller.spans if s.kind is SpanKind.CLIENT and REJECTED in s.attributes]
    assert [span.attributes[REJECTED] for span in spans] == [f"b-{kind}"] * 3
    assert [span.attributes["rpc.grpc.status_code"] for span in spans] == [14] * 3


async def travel(channel, kind):
    """A call that is refused by the server; where requests are streamed, by a sync client, because
    aio's sees a broken pipe at times. Its error.
    """

    def ask_sync():
        with grpc.insecure_channel(channel.address) as anew:
            ask(anew, kind, ())

    asked = ask_async(channel, kind, ()) if kind in "UT" else asyncio.to_thread(ask_sync)
    with pytest.raises(grpc.RpcError) as raised:
        await asked
    await asyncio.sleep(0.05)  # so that its callback has run
    return raised.value


@pytest.mark.parametrize("kind", KINDS)
def test_an_aio_call_does_not_travel_and_fails_as_the_one_that_did(caller, kind, until):
    arrivals = AsyncArrivals()

    async def main():
        async with aio_server(interceptors=[arrivals], **ASYNC) as channel:
            errors = [await travel(channel, kind)]
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await ask_async(channel, kind, ())
                errors.append(raised.value)
            return errors

    travelled, *here = of_user(CUT, lambda: asyncio.run(main()))
    assert len(arrivals.methods) == 1
    for error in here:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == travelled.details()
        marks = dict(error.trailing_metadata())
        assert marks["heatshield-breaker"] == f"b-{kind}"
        assert heatshield.is_rejection(error)
    spans = until(
        lambda: [s for s in caller.spans if s.kind is SpanKind.CLIENT and REJECTED in s.attributes]
    )
    assert [span.attributes[REJECTED] for span in spans] == [f"b-{kind}"] * 3


def test_a_future_is_refused_as_a_future(caller):
    arrivals = Arrivals()
    with sync_server(interceptors=[arrivals], **SYNC) as channel:

        def start():
            return channel.unary_unary(f"/{CALL}U").future(b"a")

        futures = []
        for _ in range(3):
            future = of_user(CUT, start)
            check_refusal(error_of(future.result), "b-U")
            futures.append(future)
        told = []
        futures[-1].add_done_callback(told.append)
        assert told == [futures[-1]]
        assert futures[-1].done()
        assert futures[-1].exception() is futures[-1]
        assert not futures[-1].cancel()
        assert futures[-1].debug_error_string()
    assert len(arrivals.methods) == 1


def test_with_call_raises_too(caller):
    arrivals = Arrivals()
    with sync_server(interceptors=[arrivals], **SYNC) as channel:
        method = channel.unary_unary(f"/{CALL}U")
        for _ in range(2):
            error = error_of(lambda: of_user(CUT, lambda: method.with_call(b"a")))
            check_refusal(error, "b-U")
    assert len(arrivals.methods) == 1


def test_an_aio_call_can_be_asked_everything(caller):
    arrivals = AsyncArrivals()

    async def main():
        async with aio_server(interceptors=[arrivals], **ASYNC) as channel:
            for _ in range(2):
                call = channel.unary_unary(f"/{CALL}U")(b"a")
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
                assert "refused by breaker b-U" in await call.details()
                assert dict(await call.trailing_metadata())["heatshield-breaker"] == "b-U"
                assert tuple(await call.initial_metadata()) == ()
                assert call.done()
                assert not call.cancelled()
                told = []
                call.add_done_callback(told.append)
                assert told == [call]
                await asyncio.sleep(0.05)

    of_user(CUT, lambda: asyncio.run(main()))
    assert len(arrivals.methods) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_services_own_interceptors_of_aio_get_a_call_from_within(caller, kind):
    """Such as one that looks at each status; it can't tell where the call was refused."""
    codes = []

    async def look(_self, continuation, details, request):
        call = await continuation(details, request)
        codes.append(await call.code())
        return call

    base = {
        "U": (grpc.aio.UnaryUnaryClientInterceptor, "intercept_unary_unary"),
        "F": (grpc.aio.StreamUnaryClientInterceptor, "intercept_stream_unary"),
        "T": (grpc.aio.UnaryStreamClientInterceptor, "intercept_unary_stream"),
        "B": (grpc.aio.StreamStreamClientInterceptor, "intercept_stream_stream"),
    }[kind]
    looking = type("Looking", (base[0],), {base[1]: look})()
    arrivals = AsyncArrivals()

    async def main():
        async with (
            aio_server(interceptors=[arrivals], **ASYNC) as plain,
            grpc.aio.insecure_channel(plain.address, interceptors=[looking]) as channel,
        ):
            await travel(plain, kind)
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await ask_async(channel, kind, ())
                assert dict(raised.value.trailing_metadata())["heatshield-breaker"] == f"b-{kind}"

    of_user(CUT, lambda: asyncio.run(main()))
    assert codes == [grpc.StatusCode.UNAVAILABLE] * 2
    assert len(arrivals.methods) == 1


def test_after_a_while_the_server_is_asked_again(caller):
    arrivals = Arrivals()
    with sync_server(interceptors=[arrivals], **SYNC) as channel:
        for _ in range(3):
            for _ in range(2):
                error_of(lambda: of_user(CUT, lambda: ask(channel, "U", ())))
            caller.clock.advance(LEARNED_S)
    assert len(arrivals.methods) == 3


def test_a_service_config_that_retries_unavailable_does_not_retry_it(caller):
    import json

    policy = {
        "maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.01s",
        "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"],
    }  # fmt: skip
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    arrivals = Arrivals()
    with sync_server(interceptors=[arrivals], **SYNC) as plain:
        target = plain._channel.target()
        address = target.decode() if isinstance(target, bytes) else target
        with grpc.insecure_channel(address, [("grpc.service_config", config)]) as channel:
            for _ in range(3):
                error_of(lambda: of_user(CUT, lambda: ask(channel, "U", ())))
    assert len(arrivals.methods) == 1
