"""The functions a service calls. They import what they need when they are called.

Until :func:`instrument` has run, naming users and costs does nothing and guards let everything
through, so a library may use them whether its service is instrumented or not.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from heatshield.fork_locks import IMPORTING, importing
from heatshield.names import UNKNOWN_SERVICE
from heatshield.settings import ServiceSettings, load

if TYPE_CHECKING:
    from heatshield.breakers.guard import Guard
    from heatshield.context.deadline import DeadlineScope

__all__ = [
    "breaker", "cost", "deadline", "enforce", "flush", "guard", "instrument", "processing",
    "shutdown", "status", "tripped", "user",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")

FLUSH_S: Final = 2.0
"""Seconds that a flush may take before it gives up."""


def instrument(service: str | None = None, **settings: object) -> None:
    """Instrument this process: requests, calls, databases, logs; and enforce breakers.

    Call it once, as early as is convenient; applications made before count too. It starts no
    thread until there is work for one, and no failure of it fails the service.

    Args:
        service: name of this service; else ``HEATSHIELD_SERVICE``, ``heatshield.toml`` or
            ``OTEL_SERVICE_NAME`` names it.
        settings: fields of :class:`heatshield.settings.ServiceSettings`.

    Raises:
        SettingsError: on an unknown setting or a value of the wrong kind.
    """
    given = {"service": service, **settings}
    loaded = load(ServiceSettings, flags=given)
    if not loaded.service:
        given["service"] = os.environ.get("OTEL_SERVICE_NAME") or UNKNOWN_SERVICE
        loaded = load(ServiceSettings, flags=given)
    if not loaded.enabled:
        return
    try:
        with IMPORTING:
            from heatshield.runtime import begin

        begin(loaded)
    except Exception:
        logging.getLogger("heatshield").warning("this process is not instrumented", exc_info=True)


def user(id: str) -> AbstractContextManager[None]:  # noqa: A002  # the public name of the argument
    """Name the end user for which this request runs; in a ``with`` statement, for its block.

    The current span, the request's server span, all later spans and log records carry the user, and
    baggage takes it to other services. Where ``user_key`` is set, a pseudonym takes its place.
    Outside of a request the thread or task keeps the user: where it goes on to other work, as in a
    pool, write ``with heatshield.user(id):``.

    Raises:
        BreakerOpen: if the handler runs already and this user's call is tripped.
    """
    runtime = _runtime()
    if runtime is None:
        return nullcontext()
    return cast("AbstractContextManager[None]", runtime.name_user(id))


def cost(elements: int = 0, rows: int = 0, bytes: int = 0) -> None:  # noqa: A002  # the public name
    """Add to the cost of the current span: collection elements, database rows, bytes moved."""
    if _runtime() is not None:
        with importing("heatshield.tracing.stamp"):
            from heatshield.tracing.stamp import add_cost

        add_cost(elements, rows, bytes)


def guard(name: str) -> "Guard":
    """A call of your own that a breaker can refuse for one user; ``with`` or ``async with``.

    Args:
        name: low cardinality, e.g. ``ownership.refresh``; the call in findings and breakers.

    Raises, on entering:
        BreakerOpen: if it is tripped for the acting user.
    """
    with importing("heatshield.breakers.guard"):
        from heatshield.breakers.guard import Guard

    return Guard(name)


def tripped(name: str) -> bool:
    """Whether a breaker is open, or only flags, the acting user's call ``name``.

    A service asks so that it can take a cheaper path by itself. No call is counted or refused.

    Args:
        name: of the call: a server span's or a guard's.
    """
    with importing("heatshield.breakers.gate"):
        from heatshield.breakers.gate import GATE

    return GATE.tripped(name)


def breaker(
    name: str, fallback: Callable[..., object] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Guard a function, sync or async.

    Args:
        name: as for :func:`guard`.
        fallback: called with the same arguments instead, when a breaker refuses the call or
            something within it; without one, :class:`heatshield.BreakerOpen` is raised.
    """
    with importing("heatshield.breakers.guard"):
        from heatshield.breakers.guard import breaker as decorate

    return decorate(name, fallback)


def processing(message: object) -> AbstractContextManager[None]:
    """The work for one message of Kafka, in a ``with`` block: a call of its own.

    It belongs to the trace and the user that the message's headers name, independent of the polling
    code. The call is named ``process TOPIC``.

    Args:
        message: a ``Message`` of confluent-kafka or a ``ConsumerRecord`` of aiokafka.

    Raises, on entering:
        BreakerOpen: if the call is tripped for the message's user; skip or park the message.
    """
    runtime = _runtime()
    if runtime is None:
        return nullcontext()
    return cast("AbstractContextManager[None]", runtime.process(message))


def deadline(seconds: float | None) -> "DeadlineScope":
    """Limit the time of a ``with`` block; a caller that waits less limits it more.

    Calls of httpx, requests, gRPC and Redis tell the next service how much time is left, wait no
    longer than that, and are not started once it is over. Nothing is interrupted.

    Args:
        seconds: from entering the block; ``None`` lifts the limit, for work that must be done even
            when no caller waits any more, such as giving something back.

    Raises, from calls in the block:
        DeadlineExceeded: if one is not started because no time is left.
    """
    with importing("heatshield.context.deadline"):
        from heatshield.context.deadline import DeadlineScope

    return DeadlineScope(seconds)


def flush() -> bool:
    """Send what is queued; ``False`` if that took longer than two seconds."""
    runtime = _runtime()
    return runtime is None or bool(runtime.flush(FLUSH_S))


def enforce(enforcing: bool) -> None:  # noqa: FBT001  # read as "enforce(False)"
    """Throw this process's kill switch with ``False``: from now on it refuses no call, whatever the
    collector grants and local breakers say. ``True`` lifts it.

    What a file or a signal has thrown stays thrown. Does nothing before :func:`instrument`.
    """
    runtime = _runtime()
    if runtime is not None:
        runtime.enforce(enforcing)


def shutdown() -> None:
    """Send what is queued, for at most two seconds, and enforce nothing any more."""
    runtime = _runtime()
    if runtime is not None:
        runtime.end()


def status() -> dict[str, Any]:
    """What ``heatshield doctor`` shows of this process: integrations, breakers, drops."""
    from heatshield.runtime import status as of_runtime

    return of_runtime()


def _runtime() -> ModuleType | None:
    """The runtime if this process has loaded it, which only :func:`instrument` does."""
    return sys.modules.get("heatshield.runtime")
