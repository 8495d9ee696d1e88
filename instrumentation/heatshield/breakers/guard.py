"""Breakable calls inside a service: ``with guard("ownership.refresh"):`` and ``@breaker(...)``."""

import inspect
from collections.abc import Awaitable, Callable
from contextvars import Token
from functools import wraps
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar, cast

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanKind,
    get_tracer,
    set_span_in_context,
)

from heatshield.breakers.gate import GATE
from heatshield.context.attachment import attach, detach
from heatshield.context.request import with_guard
from heatshield.counters import COUNTERS, fail_open
from heatshield.names import GUARD
from heatshield.rejection import BreakerOpen
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER

__all__ = ["Guard", "breaker", "guard"]

P = ParamSpec("P")
T = TypeVar("T")

_TRACER: Final = PROVIDER.get_tracer("heatshield")


class Guard:
    """A breakable call, as a context manager, sync or async. Reusable, but not while it is open.

    Raises, on entering:
        BreakerOpen: if a breaker is open for the acting user and this call.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._span: Span | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        self._begin()
        refusal = GATE.refusal(self.name)
        if refusal is not None:
            self._end(refusal)
            raise refusal
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _begin(self) -> None:
        try:
            context = with_guard(self.name)
            if PROVIDER.outlet is not None:
                span = _TRACER.open(self.name, SpanKind.INTERNAL, {GUARD: True}, context)
            else:  # not instrumented: as the service has set OpenTelemetry up, if it has
                span = get_tracer("heatshield").start_span(self.name, context)
            self._span = span
            self._context = set_span_in_context(span, context)
            self._token = attach(self._context)
        except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
            COUNTERS.error("guard")

    def _end(self, error: BaseException | None) -> None:
        span, self._span = self._span, None
        token, self._token = self._token, None
        context, self._context = self._context, None
        if token is not None:
            detach(token, context)
        if span is not None:
            _finish(span, error)


@fail_open("guard", None)
def _finish(span: Span, error: BaseException | None) -> None:
    if isinstance(error, Exception):
        fail(span, error)
    span.end()


def guard(name: str) -> Guard:
    """A call of one's own that a breaker can refuse for one user; ``with`` or ``async with``.

    Args:
        name: low cardinality, e.g. ``ownership.refresh``; the call in findings and breakers.
    """
    return Guard(name)


def breaker(
    name: str, fallback: Callable[..., object] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Guard a function, sync or async.

    Args:
        name: as for :func:`guard`.
        fallback: called with the same arguments instead, when a breaker refuses the call or
            something within it. For an async function it may be async. Without one,
            :class:`BreakerOpen` is raised.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if inspect.iscoroutinefunction(function):
            asynchronous = cast("Callable[P, Awaitable[object]]", function)
            return cast("Callable[P, T]", _guarded_async(name, asynchronous, fallback))
        return _guarded(name, function, fallback)

    return decorate


def _guarded(
    name: str, function: Callable[P, T], fallback: Callable[..., object] | None
) -> Callable[P, T]:
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with Guard(name):
                return function(*args, **kwargs)
        except BreakerOpen:
            if fallback is None:
                raise
        return cast("T", fallback(*args, **kwargs))

    return call


def _guarded_async(
    name: str, function: Callable[P, Awaitable[object]], fallback: Callable[..., object] | None
) -> Callable[P, Awaitable[object]]:
    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> object:
        try:
            with Guard(name):
                return await function(*args, **kwargs)
        except BreakerOpen:
            if fallback is None:
                raise
        answer = fallback(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    return call
