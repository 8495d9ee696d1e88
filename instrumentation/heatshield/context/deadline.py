"""Deadlines: how long the caller of this request still waits, passed from service to service.

A request whose caller has stopped waiting is useless load, and in an overload it is most of the
load. So the time left travels with each call, and no call starts once the time is over.

The header carries the milliseconds **left**, not a time of day, because clocks differ by more than
requests take. Over gRPC the deadline is the call's own timeout (``grpc-timeout``). Plain HTTP has
no standard: proxies would take ``grpc-timeout`` for gRPC, and Envoy overwrites
``x-envoy-expected-rq-timeout-ms``. So HTTP has a header of its own, ``heatshield-deadline``, and a
setting names another header to read beside it.

A deadline is a value in the OpenTelemetry context, so tasks and worker threads that carry the
context carry the deadline. It ends with its request: work that goes on after the answer, such as
background tasks, has no deadline.
"""

import math
import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Final, cast

from opentelemetry.context import Context, create_key, get_current, set_value

from heatshield.context.attachment import attach, detach

__all__ = [
    "HOP_S",
    "TIME",
    "Deadline",
    "DeadlineScope",
    "TimeSource",
    "deadline_in",
    "from_header",
    "left_s",
    "milliseconds",
    "parse",
    "with_deadline",
]

_KEY: Final = create_key("heatshield-deadline")

MAX_S: Final = 86_400.0
"""Longest deadline in seconds, a day; longer ones are read as this."""

MAX_DIGITS: Final = 12
"""Digits of the header at most; a longer number is not a plausible number of milliseconds."""

HOP_S: Final = 0.001
"""Seconds that each hop subtracts, so that its answer arrives before its caller stops waiting: a
round trip within a datacenter."""


class TimeSource:
    """Gives deadlines the time: the runtime's clock once it runs, the system's before.

    Attributes:
        monotonic: monotonic seconds.
    """

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic

    def install(self, monotonic: Callable[[], float]) -> None:
        """Take the time from a runtime's clock from now on."""
        self.monotonic = monotonic

    def remove(self) -> None:
        """Take the time from the operating system again."""
        self.monotonic = time.monotonic


TIME: Final = TimeSource()
"""The time source of this process."""


class Deadline:
    """When a request's caller stops waiting, in monotonic seconds; infinity: never."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def lift(self) -> None:
        """Remove the limit: the caller has its answer, and the rest of the work may take longer."""
        self.at = math.inf


def deadline_in(context: Context | None = None) -> Deadline | None:
    """The deadline of a context, by default the current one."""
    found = (get_current() if context is None else context).get(_KEY)
    return cast("Deadline | None", found)


def with_deadline(deadline: Deadline, context: Context | None = None) -> Context:
    """A context that has the deadline."""
    return set_value(_KEY, deadline, context)


def left_s(now: float) -> float | None:
    """Seconds left here at ``now``, in monotonic seconds; ``None`` without a deadline."""
    deadline = deadline_in()
    return None if deadline is None or deadline.at == math.inf else deadline.at - now


def parse(text: str | bytes | None) -> float | None:
    """Seconds left, from a header in milliseconds; ``None`` if it is absent or garbage."""
    if not text or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return min(MAX_S, int(text) / 1000)


def from_header(text: str | bytes | None, now: float) -> Deadline | None:
    """The deadline of a request that arrived with this header; it may be over already.

    Args:
        text: the header, if there is one.
        now: monotonic seconds at which the request arrived.
    """
    seconds = parse(text)
    return None if seconds is None else Deadline(now + seconds)


def milliseconds(seconds: float) -> str:
    """The header of an outgoing call that is made with ``seconds`` left."""
    return str(max(0, math.floor((min(seconds, MAX_S) - HOP_S) * 1000)))


class DeadlineScope:
    """A ``with`` block that has a deadline; an earlier deadline around it still holds.

    Entering returns the deadline that holds. When it is over, running work is not interrupted, but
    no further call starts. The object may be entered again after the block, not within it.

    Args:
        seconds: time for the block; ``None`` lifts every deadline around it.
        monotonic: source of monotonic seconds, by default :data:`TIME`.
    """

    __slots__ = ("_context", "_mine", "_monotonic", "_seconds", "_token")

    def __init__(self, seconds: float | None, monotonic: Callable[[], float] | None = None) -> None:
        self._seconds = seconds
        self._monotonic = monotonic or TIME.monotonic
        self._mine: Deadline | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Deadline:
        at = math.inf
        if self._seconds is not None:
            at = self._monotonic() + self._seconds
            outer = deadline_in()
            if outer is not None and outer.at <= at:
                return outer
        self._mine = mine = Deadline(at)
        self._context = with_deadline(mine)
        self._token = attach(self._context)
        return mine

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        mine, self._mine = self._mine, None
        token, self._token = self._token, None
        context, self._context = self._context, None
        if mine is not None:
            mine.lift()
        if token is not None:
            detach(token, context)
