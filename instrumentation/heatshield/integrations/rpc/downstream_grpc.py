"""gRPC clients, sync and aio: local breakers, deadlines and retry budgets of calls.

A call is one RPC. Its peer is the channel's target, its name the method. The deadline travels as
gRPC's own: the timeout of a call is what the request has left, if that is less. A channel's methods
are patched, so what a call returns is what it returned before, and every channel is covered; the
service's own interceptors are around sync calls, and within those of aio.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import grpc
from grpc import _channel
from grpc.aio import _channel as aio_channel

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.patches import Patches
from heatshield.integrations.rpc.grpc_calls import at_once, name_of, target_of
from heatshield.integrations.services import Services
from heatshield.names import BREAKER_HEADER, DEADLINE_HEADER
from heatshield.resilience.downstream import DOWNSTREAM, Begun
from heatshield.resilience.local_breaker import Outcome

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
"""What a server that is in trouble answers. UNIMPLEMENTED is an answer, and a timeout is looked at
apart."""

MARKS: Final = frozenset({BREAKER_HEADER, DEADLINE_HEADER})

TIMEOUT_AT: Final = 1
"""Where a call's timeout stands: after the request."""

_UNARY_STUBS: Final = ("_UnaryUnaryMultiCallable", "_StreamUnaryMultiCallable")
_STREAM_STUBS: Final = (
    "_UnaryStreamMultiCallable",
    "_SingleThreadedUnaryStreamMultiCallable",
    "_StreamStreamMultiCallable",
)
_ASYNC_STUBS: Final = (
    "UnaryUnaryMultiCallable",
    "UnaryStreamMultiCallable",
    "StreamUnaryMultiCallable",
    "StreamStreamMultiCallable",
)
"""Classes of a channel's methods, by what calling them returns: an answer, or a call."""

_PATCHES: Final = Patches()

Call = Callable[..., Any]


def install(services: Services) -> None:
    """Stand before every call, if the settings want anything of it.

    Raises:
        AttributeError: if a class is not there; then nothing is patched.
    """
    remove()
    unary = [getattr(_channel, name) for name in _UNARY_STUBS]
    going_on = [getattr(_channel, name) for name in _STREAM_STUBS]
    going_on += [getattr(aio_channel, name) for name in _ASYNC_STUBS]
    if DOWNSTREAM.install(NAME, services.settings):
        for stub in unary:
            for method in ("__call__", "with_call"):
                _PATCHES.wrap(stub, method, _blocking(stub))
            _PATCHES.wrap(stub, "future", _starting(stub))
        for stub in going_on:
            _PATCHES.wrap(stub, "__call__", _starting(stub))


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _is_patient(stub_class: type) -> bool:
    """Whether calls stream, and may take their time."""
    return not stub_class.__name__.endswith("UnaryUnaryMultiCallable")


def _blocking(stub_class: type) -> Callable[[Call], Call]:
    """A method that returns the answer."""
    patient = _is_patient(stub_class)

    def wrap(original: Call) -> Call:
        @wraps(original)
        def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
            begun = None if DOWNSTREAM.idle else DOWNSTREAM.begin(_peer(stub), _name(stub))
            if begun is None:
                return original(stub, *args, **kwargs)
            args, kwargs = _with_timeout(begun, args, kwargs)
            try:
                answer = original(stub, *args, **kwargs)
            except BaseException as error:
                _failed(begun, error, patient=patient)
                raise
            begun.end(Outcome.SUCCESS, patient=patient)
            return answer

        return call

    return wrap


def _starting(stub_class: type) -> Callable[[Call], Call]:
    """A method that returns a call that goes on: a future, a stream."""
    patient = _is_patient(stub_class)

    def wrap(original: Call) -> Call:
        @wraps(original)
        def call(stub: Any, *args: Any, **kwargs: Any) -> Any:
            begun = None if DOWNSTREAM.idle else DOWNSTREAM.begin(_peer(stub), _name(stub))
            if begun is None:
                return original(stub, *args, **kwargs)
            args, kwargs = _with_timeout(begun, args, kwargs)
            made = original(stub, *args, **kwargs)
            _follow(begun, made, patient=patient)
            return made

        return call

    return wrap


@fail_open(NAME, "")
def _peer(stub: Any) -> str:
    return target_of(stub)


@fail_open(NAME, "")
def _name(stub: Any) -> str:
    return name_of(stub._method)  # noqa: SLF001  # a stub's method has no public name


def _with_timeout(
    begun: Begun, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if begun.left_s is None:
        return args, kwargs
    try:
        if len(args) > TIMEOUT_AT:
            timeout_s = begun.timeout_s(args[TIMEOUT_AT])
            return (*args[:TIMEOUT_AT], timeout_s, *args[TIMEOUT_AT + 1 :]), kwargs
        return args, {**kwargs, "timeout": begun.timeout_s(kwargs.get("timeout"))}
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return args, kwargs


@fail_open(NAME, None)
def _failed(begun: Begun, error: BaseException, *, patient: bool) -> None:
    """A blocking call raised."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        _ended(begun, error.code(), error.trailing_metadata(), patient=patient)
    else:
        begun.end(Outcome.CUT)


@fail_open(NAME, None)
def _follow(begun: Begun, call: Any, *, patient: bool) -> None:
    """Say how a call ended that was started, once it has."""

    @fail_open(NAME, None)
    def ended(done: Any) -> None:
        _ended(begun, done.code(), done.trailing_metadata(), patient=patient)

    @fail_open(NAME, None)
    def ended_async(done: Any) -> None:
        _ended(begun, at_once(done.code()), at_once(done.trailing_metadata()), patient=patient)

    call.add_done_callback(ended_async if isinstance(call, grpc.aio.Call) else ended)


def _ended(begun: Begun, code: Any, metadata: Any, *, patient: bool) -> None:
    is_marked = any(name in MARKS for name, _ in metadata or ())
    if is_marked and code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        begun.end(Outcome.REJECTED)  # a paced user's, or by a limit; of others it is an answer
    elif code in FAILURES or code is grpc.StatusCode.DEADLINE_EXCEEDED:
        if is_marked:
            begun.end(Outcome.REJECTED)
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            begun.timed_out(patient=patient)
        else:
            begun.end(Outcome.FAILURE, patient=patient)
    else:
        cut = code is grpc.StatusCode.CANCELLED or code is None
        begun.end(Outcome.CUT if cut else Outcome.SUCCESS, patient=patient)
