"""Deadlines: the time that whoever waits for this request has left, from service to service.

A request that nobody waits for any more is load without use, and in an overload it is most of the
load. So the time left travels with each call, and a call is not started once it is over.

It travels as the milliseconds **left**, not as a time of day, because clocks differ by more than
requests take. Over gRPC it is the call's own timeout (``grpc-timeout``), as gRPC has it. For plain HTTP
there is no standard: ``grpc-timeout`` there would mean gRPC to proxies, and Envoy overwrites
``x-envoy-expected-rq-timeout-ms`` by its own. So the header is ours, ``heatshield-deadline``, and another
one can be understood beside it by setting.

A deadline ends with its request: once the answer is given, what still runs for it (background
tasks, say) runs without one.
"""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final

from heatshield.breakers.rejection import Response
from heatshield.counters import COUNTERS
from heatshield.names import DEADLINE_HEADER

__all__ = [
    "EXPIRED_STATUS",
    "Deadline",
    "DeadlineExceeded",
    "Within",
    "is_expiry",
    "left_s",
    "milliseconds",
    "parse",
]

EXPIRED_STATUS: Final = 504
"""What a service answers over HTTP; over gRPC it is DEADLINE_EXCEEDED, which maps to it."""

MOST_S: Final = 86_400.0
"""Nobody waits longer than a day; more is read as this."""

MOST_DIGITS: Final = 12
"""Of the header; more is not a number of milliseconds but an attack on ``int``."""

HOP_S: Final = 0.001
"""What a hop gives up before its caller does, so that its answer still arrives: a round trip
within a datacenter."""


class DeadlineExceeded(Exception):  # noqa: N818  # gRPC's name for it
    """A call was not started, because the request it is for has no time left. Not retried."""

    def __init__(self, call: str = "") -> None:
        super().__init__(f"no time left for {call or 'this request'}; it was not started")
        self.call = call

    def __reduce__(self) -> tuple[type["DeadlineExceeded"], tuple[str]]:
        return (type(self), (self.call,))

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that mark the answer, so that no breaker counts it as a failure."""
        return {DEADLINE_HEADER: "0"}


class Deadline:
    """When a request's caller stops waiting, in monotonic seconds; infinity: it got its answer."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    def lift(self) -> None:
        """The caller has its answer: what still runs for this request may take its time."""
        self.at = math.inf


_HERE: Final[ContextVar[Deadline | None]] = ContextVar("heatshield-deadline", default=None)


def left_s(now: float) -> float | None:
    """Seconds left at ``now``, in monotonic seconds; negative once over, ``None`` without a deadline."""
    deadline = _HERE.get()
    if deadline is None or deadline.at == math.inf:
        return None
    return deadline.at - now


def parse(text: str | bytes | None) -> float | None:
    """Seconds left, from a header in milliseconds; ``None`` if it is absent or garbage."""
    if not text or len(text) > MOST_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return min(MOST_S, int(text) / 1000)


def milliseconds(seconds: float) -> str:
    """A header's value for ``seconds`` left here: what the next hop may take."""
    return str(max(0, math.floor((min(seconds, MOST_S) - HOP_S) * 1000)))


def is_expiry(response: Response) -> bool:
    """Whether a service answered that no time was left. That is not a failure of that service."""
    return response.status_code == EXPIRED_STATUS and bool(response.headers.get(DEADLINE_HEADER))


class Within:
    """A block that has so much time, or less if it runs within one that has. Not to be shared.

    Entering gives the deadline that holds. Nothing is interrupted when it is over; calls are not
    started any more.

    Args:
        seconds: how much; infinity is no limit of its own.
        monotonic: where the time comes from.
    """

    __slots__ = ("_mine", "_monotonic", "_seconds", "_token")

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._mine: Deadline | None = None
        self._token: Token[Deadline | None] | None = None

    def __enter__(self) -> Deadline:
        at = self._monotonic() + self._seconds
        outer = _HERE.get()
        if outer is not None and outer.at <= at:
            return outer
        self._mine = mine = Deadline(at)
        self._token = _HERE.set(mine)
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
            try:
                _HERE.reset(token)
            except ValueError:  # left in another context than it was entered in
                COUNTERS.error("deadline")
