"""What an instance tells the collector, and what may be wrong with it on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from heatshield_collector.worlds.requests import Operation, Request

__all__ = ["FLUSH_S", "Deliver", "Faults", "Message", "Mode", "Telemetry"]

FLUSH_S: Final = 0.2
"""Seconds between the messages of a process, as of the exporter and of charge reports."""

KEPT_OF: Final = 1 << 56
"""Trace ids are random in their lower 56 bits, by which samplers decide."""

Mode = Literal["reports", "spans", "both"]
"""By what a process tells its costs: charge reports, spans, or both."""

Message = Literal["spans", "report"]

Deliver = Callable[[Message, bytes], None]
"""Takes a message that leaves a process now."""


class Telemetry(Protocol):
    """Told of what one instance does; tells the collector."""

    def began(self, request: Request) -> None:
        """A request was let in."""
        ...

    def operated(self, request: Request, operation: Operation) -> None:
        """An operation on a backend has ended."""
        ...

    def visited(self, request: Request, answer: Request, number: int, began_s: float) -> None:
        """A request to another service was answered.

        Args:
            request: that sent it.
            answer: the request there.
            number: of the client's span.
            began_s: when it was sent.
        """
        ...

    def ended(self, request: Request) -> None:
        """A request has ended, or was refused."""
        ...

    @property
    def urgent(self) -> bool:
        """Whether what is to be told should not wait."""
        ...

    def flush(self, now_s: float) -> None:
        """Send what is to be told."""
        ...


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with telemetry.

    Attributes:
        trace_ratio: part of the traces that are sent.
        lost: services whose spans never arrive, so that parents are missing.
        skew_s: greatest error of a process' wall clock, either way.
        duplicates: part of the messages that arrive twice.
        named_in: the only service that knows the user; empty: all do.
        one_trace: every request has the same trace id.
        tells_queues: charge reports tell of event-loop lag and of queues for workers and
            connections.
    """

    trace_ratio: float = 1.0
    lost: tuple[str, ...] = ()
    skew_s: float = 0.0
    duplicates: float = 0.0
    named_in: str = ""
    one_trace: bool = False
    tells_queues: bool = True

    def names_user(self, service: str) -> bool:
        """Whether a service knows the user."""
        return not self.named_in or service == self.named_in

    def keeps(self, trace: int) -> bool:
        """Whether a trace is sent."""
        return trace % KEPT_OF < self.trace_ratio * KEPT_OF


class Several:
    """Tells through several telemetries at once."""

    def __init__(self, *parts: Telemetry) -> None:
        self._parts = parts

    def began(self, request: Request) -> None:
        """A request was let in."""
        for part in self._parts:
            part.began(request)

    def operated(self, request: Request, operation: Operation) -> None:
        """An operation on a backend has ended."""
        for part in self._parts:
            part.operated(request, operation)

    def visited(self, request: Request, answer: Request, number: int, began_s: float) -> None:
        """A request to another service was answered."""
        for part in self._parts:
            part.visited(request, answer, number, began_s)

    def ended(self, request: Request) -> None:
        """A request has ended, or was refused."""
        for part in self._parts:
            part.ended(request)

    @property
    def urgent(self) -> bool:
        """Whether what is to be told should not wait."""
        return any(part.urgent for part in self._parts)

    def flush(self, now_s: float) -> None:
        """Send what is to be told."""
        for part in self._parts:
            part.flush(now_s)
