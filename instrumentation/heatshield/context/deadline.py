"""Deadlines: the time that whoever waits for this request has left, from service to service.

A request that nobody waits for any more is load without use, and in an overload it is most of the
load. So the time left travels with each call, and a call is not started once it is over.

It travels as the milliseconds **left**, not as a time of day, because clocks differ by more than
requests take. Over gRPC it is the call's own timeout (``grpc-timeout``), as gRPC has it. For plain
HTTP there is no standard: ``grpc-timeout`` there would mean gRPC to proxies, and Envoy overwrites
``x-envoy-expected-rq-timeout-ms`` by its own. So the header is ours, ``heatshield-deadline``, and
another one can be understood beside it by setting.

A deadline stands in the OpenTelemetry context, so whatever carries that (tasks, worker threads)
carries it. It ends with its request: once the answer is given, what still runs for it, background
tasks say, runs without one.
"""

import math
import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Final, cast

from opentelemetry.context import Context, attach, create_key, detach, get_current, set_value

__all__ = [
    "HOP_S",
    "TIME",
    "Deadline",
    "TimeSource",
    "Within",
    "arrived",
    "deadline_in",
    "left_s",
    "milliseconds",
    "parse",
    "with_deadline",
]

_KEY: Final = create_key("heatshield-deadline")

MOST_S: Final = 86_400.0
"""Nobody waits longer than a day; more is read as this."""

MOST_DIGITS: Final = 12
"""Of the header; more is no number of milliseconds."""

HOP_S: Final = 0.001
"""What a hop gives up before its caller does, so that its answer still arrives: a round trip
within a datacenter."""


class TimeSource:
    """Where deadlines take the time from: the runtime's clock, once there is one.

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
"""This process's."""


class Deadline:
    """When a request's caller stops waiting, in monotonic seconds; infinity: never."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def lift(self) -> None:
        """The caller has its answer: what still runs for this request may take its time."""
        self.at = math.inf


def deadline_in(context: Context | None = None) -> Deadline | None:
    """The deadline of a context, by default the current one."""
    found = (get_current() if context is None else context).get(_KEY)
    return cast("Deadline | None", found)


def with_deadline(deadline: Deadline, context: Context | None = None) -> Context:
    """A context with that deadline."""
    return set_value(_KEY, deadline, context)


def left_s(now: float) -> float | None:
    """Seconds left here at ``now``, in monotonic seconds; ``None`` without a deadline."""
    deadline = deadline_in()
    return None if deadline is None or deadline.at == math.inf else deadline.at - now


def parse(text: str | bytes | None) -> float | None:
    """Seconds left, from a header in milliseconds; ``None`` if it is absent or garbage."""
    if not text or len(text) > MOST_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return min(MOST_S, int(text) / 1000)


def arrived(text: str | bytes | None, now: float) -> Deadline | None:
    """The deadline of a request that came in with this header; one that is over stops it.

    Args:
        text: the header, if there is one.
        now: monotonic seconds at which it came.
    """
    seconds = parse(text)
    return None if seconds is None else Deadline(now + seconds)


def milliseconds(seconds: float) -> str:
    """The header for a call that is made with ``seconds`` left here."""
    return str(max(0, math.floor((min(seconds, MOST_S) - HOP_S) * 1000)))


class Within:
    """A block that has so much time, or less where it runs within one that has less.

    Entering gives the deadline that holds. Nothing is interrupted when it is over: calls are not
    started any more. Reusable, but not while it is open.

    Args:
        seconds: how much; ``None`` is all the time there is, whatever it runs within.
        monotonic: where the time comes from, by default :data:`TIME`.
    """

    __slots__ = ("_mine", "_monotonic", "_seconds", "_token")

    def __init__(self, seconds: float | None, monotonic: Callable[[], float] | None = None) -> None:
        self._seconds = seconds
        self._monotonic = monotonic or TIME.monotonic
        self._mine: Deadline | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Deadline:
        at = math.inf
        if self._seconds is not None:
            at = self._monotonic() + self._seconds
            outer = deadline_in()
            if outer is not None and outer.at <= at:
                return outer
        self._mine = mine = Deadline(at)
        self._token = attach(with_deadline(mine))
        return mine

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        mine, self._mine = self._mine, None
        token, self._token = self._token, None
        if mine is not None:
            mine.lift()
        if token is not None:
            detach(token)
