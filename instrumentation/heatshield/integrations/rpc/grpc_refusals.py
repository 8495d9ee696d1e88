"""Answers here what the gRPC server behind a channel is known to refuse, sync and aio.

The call ends as the refused one would that came back: with gRPC's own classes, UNAVAILABLE and the
marks in its trailing metadata. Interceptors of the service are around it as around any call. What
decides stands in :mod:`heatshield.breakers.caller_gate`.
"""

from collections.abc import Callable, Iterable
from copy import copy
from functools import partial, wraps
from typing import Any, Final, NamedTuple

import grpc
from grpc import _channel

from heatshield.breakers.caller_gate import CALLER_GATE, Place, acting_user
from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.rpc.grpc_calls import at_once, metadata_of, name_of, target_of
from heatshield.rejection import BreakerOpen

__all__ = ["refusing", "refusing_started"]

METHOD: Final = "POST"
"""Of HTTP/2: that of every gRPC call."""

Call = Callable[..., Any]


class _Metadatum(NamedTuple):
    """One pair of metadata, as gRPC's own."""

    key: str
    value: str


def refusing(original: Call) -> Call:
    """A patch of a stub's method that returns the answer."""

    @wraps(original)
    def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
        if CALLER_GATE.idle:
            return original(stub, *args, **kwargs)
        place = _place(stub)
        refused = _refused_here(place, _unary_error)
        if refused is not None:
            raise refused
        try:
            return original(stub, *args, **kwargs)
        except grpc.RpcError as error:
            _learn(place, acting_user(), error)
            raise

    return call


def refusing_started(original: Call) -> Call:
    """A patch of a stub's method that returns a call that goes on: a future, a stream."""

    @wraps(original)
    def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
        if CALLER_GATE.idle:
            return original(stub, *args, **kwargs)
        place = _place(stub)
        build = _ended_call
        if isinstance(stub, _ASYNC_STUBS):
            build = partial(_ended_async, partial(_call_of, original, stub, args, kwargs), stub)
        refused = _refused_here(place, build)
        if refused is not None:
            return refused
        made = original(stub, *args, **kwargs)
        _follow(place, made)
        return made

    return call


@fail_open("grpc", None)
def _place(stub: Any) -> Place:
    name = name_of(stub._method)  # noqa: SLF001  # a stub's method has no public name
    return Place(target_of(stub), METHOD, f"/{name}")


def _refused_here(place: Place | None, build: Callable[[BreakerOpen], Any]) -> Any:
    refusal = CALLER_GATE.refusal(place)
    if refusal is None:
        return None
    try:
        return build(refusal)
    except Exception:  # noqa: BLE001  # the server still refuses it
        COUNTERS.error("caller gate")
        return None


# -- what is learned -------------------------------------------------------------------------------


@fail_open("grpc", None)
def _follow(place: Place | None, call: Any) -> None:
    """Learn from a call that goes on, once it has ended: in a thread of gRPC's own, perhaps."""
    user = acting_user()
    if user is not None:
        call.add_done_callback(partial(_learn, place, user))


@fail_open("grpc", None)
def _learn(place: Place | None, user: str | None, ended: Any) -> None:
    if isinstance(ended, grpc.aio.Call):
        code, metadata = at_once(ended.code()), at_once(ended.trailing_metadata())
    else:
        code, metadata = ended.code(), ended.trailing_metadata()
    if code is grpc.StatusCode.UNAVAILABLE:
        CALLER_GATE.learn(place, dict(metadata or ()), user)


# -- how a refused call looks ----------------------------------------------------------------------


def _metadata(refusal: BreakerOpen) -> tuple[_Metadatum, ...]:
    return tuple(_Metadatum(*pair) for pair in metadata_of(refusal))


def _state(refusal: BreakerOpen) -> Any:
    text = str(refusal)
    state = _channel._RPCState(  # noqa: SLF001  # no public name leads to it
        (), (), _metadata(refusal), grpc.StatusCode.UNAVAILABLE, text
    )
    state.debug_error_string = text
    return state


def _unary_error(refusal: BreakerOpen) -> grpc.RpcError:
    return _channel._InactiveRpcError(_state(refusal))  # noqa: SLF001  # what a stub raises


def _ended_call(refusal: BreakerOpen) -> Any:
    """A future and an iterator, which raises itself."""
    return _channel._MultiThreadedRendezvous(  # noqa: SLF001  # what a stub returns
        _state(refusal), None, None, None
    )


def _call_of(
    original: Call,
    stub: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    interceptors: Iterable[Any],
    *request: Any,
) -> Any:
    """The call that a stub makes within these interceptors, of this request if one is given."""
    changed = copy(stub)
    changed._interceptors = list(interceptors)  # noqa: SLF001  # a channel's are made with it
    return original(changed, *(request or args), **({} if request else kwargs))


def _ended_async(call_of: Callable[..., Any], stub: Any, refusal: BreakerOpen) -> Any:
    """A call of aio's, made by gRPC itself, whose innermost interceptor refuses it."""
    text = str(refusal)
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        initial_metadata=grpc.aio.Metadata(),
        trailing_metadata=grpc.aio.Metadata(*_metadata(refusal)),
        details=text,
        debug_error_string=text,
    )

    def refuse(_request: Any) -> Any:
        raise error

    own = stub._interceptors  # noqa: SLF001  # likewise
    if not own:
        return call_of([_Innermost(refuse)])
    # The service's own expect a call from within, and no error.
    return call_of([*own, _Innermost(partial(call_of, [_Innermost(refuse)]))])


class _Innermost(
    grpc.aio.UnaryUnaryClientInterceptor,  # type: ignore[misc]  # grpc publishes no types
    grpc.aio.UnaryStreamClientInterceptor,  # type: ignore[misc]  # grpc publishes no types
    grpc.aio.StreamUnaryClientInterceptor,  # type: ignore[misc]  # grpc publishes no types
    grpc.aio.StreamStreamClientInterceptor,  # type: ignore[misc]  # grpc publishes no types
):
    """Answers a call of any kind with what a function makes of the request."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    async def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        del continuation, details
        return self._answer(request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept
    intercept_stream_stream = _intercept


_ASYNC_STUBS: Final = (
    grpc.aio.UnaryUnaryMultiCallable,
    grpc.aio.UnaryStreamMultiCallable,
    grpc.aio.StreamUnaryMultiCallable,
    grpc.aio.StreamStreamMultiCallable,
)
