"""gRPC clients, sync and aio: local breakers, deadlines and retry budgets of calls.

A call is one RPC. Its peer is the channel's target, its name the method. The deadline travels as
gRPC's own: the timeout of the call is what the request has left, if that is less. Channels that are
made from now on are covered; interceptors of the service's own run outside of ours. In aio, calls
that stream their requests are left alone, as an interceptor changes what one can do with them.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final

import grpc

from heatshield.breakers.downstream import DOWNSTREAM, Begun
from heatshield.breakers.local import Outcome
from heatshield.counters import fail_open
from heatshield.integrations.equipment import Equipment
from heatshield.integrations.patching import Patches
from heatshield.names import BREAKER_HEADER, DEADLINE_HEADER

__all__ = ["NAME", "install", "remove"]

NAME: Final = "downstream_grpc"

FAILURES: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that say that the server failed, as OpenTelemetry's conventions have them; a timeout is
looked at apart, and UNIMPLEMENTED is an answer."""

_PATCHES: Final = Patches()


def install(equipment: Equipment) -> None:
    """Stand before every call of channels to come, if the settings want anything of it."""
    remove()
    if DOWNSTREAM.install(NAME, equipment.settings):
        for name in ("insecure_channel", "secure_channel"):
            _PATCHES.wrap(grpc, name, _making)
            _PATCHES.wrap(grpc.aio, name, _making_async)


def remove() -> None:
    """Take it out again; channels that exist ask nothing any more."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _making(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def channel(target: str, *args: Any, **kwargs: Any) -> Any:
        made = original(target, *args, **kwargs)
        return grpc.intercept_channel(made, _Interceptor(str(target)))

    return channel


INTERCEPTORS_AT: Final = {"insecure_channel": 2, "secure_channel": 3}
"""Where ``interceptors`` stands after the target."""


def _making_async(original: Callable[..., Any]) -> Callable[..., Any]:
    at = INTERCEPTORS_AT[original.__name__]

    @wraps(original)
    def channel(target: str, *args: Any, **kwargs: Any) -> Any:
        ours = [kind(str(target)) for kind in _KINDS]
        if len(args) > at:
            args = (*args[:at], [*(args[at] or ()), *ours], *args[at + 1 :])
        else:
            kwargs["interceptors"] = [*(kwargs.get("interceptors") or ()), *ours]
        return original(target, *args, **kwargs)

    return channel


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]  # grpc publishes no types
    """Of a call, with another timeout."""

    def __init__(self, details: Any, timeout_s: float | None) -> None:
        self.method = details.method
        self.timeout = timeout_s
        self.metadata = details.metadata
        self.credentials = details.credentials
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


def _begin(peer: str, details: Any) -> Begun | None:
    if DOWNSTREAM.idle:
        return None
    method = details.method
    call = method.decode("ascii", "replace") if isinstance(method, bytes) else str(method)
    return DOWNSTREAM.begin(peer, call)


@fail_open(NAME, None)
def _ended(begun: Begun, code: Any, metadata: Any, *, patient: bool) -> None:
    """Say how a call ended, from its status and its trailing metadata."""
    marks = {BREAKER_HEADER, DEADLINE_HEADER}
    if code in FAILURES or code is grpc.StatusCode.DEADLINE_EXCEEDED:
        if any(name in marks for name, _ in metadata or ()):
            begun.end(Outcome.REJECTED)
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            begun.timed_out(patient=patient)
        else:
            begun.end(Outcome.FAILURE, patient=patient)
    else:
        cut = code is grpc.StatusCode.CANCELLED
        begun.end(Outcome.CUT if cut else Outcome.SUCCESS, patient=patient)


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]  # grpc publishes no types
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Of one channel."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def _call(self, go_on: Callable[..., Any], details: Any, request: Any, patient: bool) -> Any:  # noqa: FBT001  # ours alone
        begun = _begin(self._peer, details)
        if begun is None:
            return go_on(details, request)
        timeout_s = begun.timeout_s(details.timeout)
        call = go_on(_Details(details, timeout_s), request)
        call.add_done_callback(
            lambda ended: _ended(begun, ended.code(), ended.trailing_metadata(), patient=patient)
        )
        return call

    def intercept_unary_unary(self, go_on: Any, details: Any, request: Any) -> Any:
        """One request, one response."""
        return self._call(go_on, details, request, patient=False)

    def intercept_unary_stream(self, go_on: Any, details: Any, request: Any) -> Any:
        """One request, many responses."""
        return self._call(go_on, details, request, patient=True)

    def intercept_stream_unary(self, go_on: Any, details: Any, requests: Any) -> Any:
        """Many requests, one response."""
        return self._call(go_on, details, requests, patient=True)

    def intercept_stream_stream(self, go_on: Any, details: Any, requests: Any) -> Any:
        """Many requests, many responses."""
        return self._call(go_on, details, requests, patient=True)


@fail_open(NAME, None)
def _async_ended(begun: Begun, call: Any, *, patient: bool) -> None:
    _ended(begun, _at_once(call.code()), _at_once(call.trailing_metadata()), patient=patient)


def _at_once(result: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for; ``None`` if it has."""
    try:
        result.send(None)
    except StopIteration as done:
        return done.value
    result.close()
    return None


class _AsyncInterceptor:
    """Of one channel, for one kind of call."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    async def _call(self, go_on: Any, details: Any, request: Any, *, patient: bool) -> Any:
        begun = _begin(self._peer, details)
        if begun is None:
            return await go_on(details, request)
        timeout_s = begun.timeout_s(details.timeout)
        call = await go_on(details._replace(timeout=timeout_s), request)
        call.add_done_callback(lambda ended: _async_ended(begun, ended, patient=patient))
        return call


class _AsyncUnary(_AsyncInterceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, go_on: Any, details: Any, request: Any) -> Any:
        """One request, one response."""
        return await self._call(go_on, details, request, patient=False)


class _AsyncStream(_AsyncInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, go_on: Any, details: Any, request: Any) -> Any:
        """One request, many responses."""
        return await self._call(go_on, details, request, patient=True)


_KINDS: Final = (_AsyncUnary, _AsyncStream)
