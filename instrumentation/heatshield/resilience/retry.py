"""Whether a retry may be made: within the retry budget, and never of a rejected call.

For the retry library that a service uses already, one line::

    @stamina.retry(on=heatshield.retry.on(httpx.HTTPError), attempts=3)

    @tenacity.retry(retry=heatshield.retry.if_allowed(), stop=tenacity.stop_after_attempt(3))

A rejection (:class:`BreakerOpen`, or an error about a response that is one) and a request whose
time is over (:class:`DeadlineExceeded`) are never retried. Any other retry is paid from a budget:
20 % of the first attempts plus 10 a second, of the peer whose call failed. Once it is used up, the
error goes to the caller as if the last attempt had failed. No library tells which attempt is its
last, so that one is paid for as well: where every call fails, fewer retries are made than that.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from heatshield.breakers.deadline_exceeded import DeadlineExceeded, is_expiry
from heatshield.counters import fail_open
from heatshield.fork_locks import importing
from heatshield.names import BREAKER_HEADER, DEADLINE_HEADER
from heatshield.rejection import BreakerOpen, is_rejection
from heatshield.resilience.attempts import RETRIES

__all__ = ["if_allowed", "is_final", "on"]

MOST_CAUSES: Final = 8
"""How far back the causes of an error are followed."""

FIRST: Final = 1
"""tenacity's number of a first attempt."""

Predicate = Callable[[Any], bool]
"""Says of an exception whether it may be retried; it may be annotated for one class of them."""

Condition = Callable[..., Any]
"""tenacity's: answers a bool, or an awaitable of one."""


class _Outcome(Protocol):
    @property
    def failed(self) -> bool: ...

    def exception(self) -> BaseException | None: ...

    def result(self) -> object: ...


class RetryState(Protocol):
    """What is used of tenacity's ``RetryCallState``."""

    @property
    def attempt_number(self) -> int:
        """1 for the first attempt."""
        ...

    @property
    def outcome(self) -> Any:
        """The attempt's future; tenacity types it as one that may be missing."""
        ...


def on(*errors: type[Exception] | Predicate, name: str = "") -> Callable[[Exception], bool]:
    """For stamina's ``on``, and for any library that asks of an exception whether to retry it.

    Args:
        errors: types, or functions that say of an exception whether it may be retried; without
            any, every ``Exception`` may.
        name: of the budget that pays, if not that of the peer whose call failed. It learns of no
            first attempts, so it has 10 retries a second.
    """
    RETRIES.wanted = True
    types = tuple(one for one in errors if isinstance(one, type))
    predicates = tuple(one for one in errors if not isinstance(one, type))

    def retry(error: Exception) -> bool:
        wanted = not errors or isinstance(error, types) or any(one(error) for one in predicates)
        return wanted and _allowed(error, name)

    return retry


def if_allowed(condition: Condition | None = None, name: str = "") -> Condition:
    """For tenacity's ``retry``.

    Args:
        condition: which outcomes to retry, one of tenacity's ``retry_if_...``, sync or async;
            without one, every ``Exception``.
        name: of the budget that pays, if not that of the peer whose call failed.
    """
    RETRIES.wanted = True
    asked: Condition = condition or _failed
    if inspect.iscoroutinefunction(asked) or inspect.iscoroutinefunction(
        getattr(asked, "__call__", None)  # noqa: B004  # the method, to see whether it is async
    ):
        return _if_allowed_async(asked, name)

    def retry(state: RetryState) -> bool:
        _count(state, name)
        return bool(asked(state)) and _allowed(_outcome(state), name)

    return retry


def _if_allowed_async(
    asked: Callable[[RetryState], Awaitable[object]], name: str
) -> Callable[[RetryState], Awaitable[bool]]:
    async def retry(state: RetryState) -> bool:
        _count(state, name)
        return bool(await asked(state)) and _allowed(_outcome(state), name)

    return retry


def _failed(state: RetryState) -> bool:
    return bool(state.outcome.failed) and isinstance(state.outcome.exception(), Exception)


def _outcome(state: RetryState) -> object:
    outcome: _Outcome = state.outcome
    return outcome.exception() if outcome.failed else outcome.result()


@fail_open("retry", None)
def _count(state: RetryState, name: str) -> None:
    """Pay a first attempt into a named budget; a peer's budget is paid where its calls begin."""
    if name and state.attempt_number == FIRST:
        RETRIES.budgets.of(name).deposit(RETRIES.monotonic())


@fail_open("retry", True)
def _allowed(found: object, name: str) -> bool:
    if is_final(found):
        return False
    with importing("heatshield.context.deadline"):  # it brings OpenTelemetry in
        from heatshield.context.deadline import left_s

    now = RETRIES.monotonic()
    left = left_s(now)
    return (left is None or left > 0) and RETRIES.may_retry(now, name)


@fail_open("retry", False)
def is_final(found: object) -> bool:
    """Whether this must not be retried, whatever the budget.

    Args:
        found: an error, or a response. An error is final if its cause is, a group (from a task
            group) if any of its errors is.
    """
    for _ in range(MOST_CAUSES):
        if isinstance(found, BaseExceptionGroup):
            return any(is_final(part) for part in found.exceptions)
        if isinstance(found, BreakerOpen | DeadlineExceeded) or _is_marked(found):
            return True
        found = getattr(found, "__cause__", None)
        if found is None:
            break
    return False


def _is_marked(found: object) -> bool:
    response = getattr(found, "response", None)  # of httpx' and requests' errors
    for one in (found, response):
        if getattr(one, "status_code", None) and hasattr(one, "headers"):
            return is_rejection(one) or is_expiry(one)  # type: ignore[arg-type]  # as it looks
    status, headers = getattr(found, "status", None), getattr(found, "headers", None)
    if isinstance(status, int) and headers is not None:  # aiohttp's errors and responses
        return bool(headers.get(BREAKER_HEADER) or headers.get(DEADLINE_HEADER))
    trailing = getattr(found, "trailing_metadata", None)  # gRPC's errors
    marks = (BREAKER_HEADER, DEADLINE_HEADER)
    return callable(trailing) and any(key in marks for key, _ in trailing() or ())
