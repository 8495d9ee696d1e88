"""Requests, and the steps that they do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from heatshield_collector.worlds.backends import Backend
from heatshield_collector.worlds.processors import Task

__all__ = ["Compute", "Operate", "Operation", "Request", "Step", "TakesRequests", "Visit", "Wait"]


@dataclass(frozen=True, slots=True)
class Compute:
    """Use the processor for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Operate:
    """Do one operation on a backend.

    Attributes:
        seconds: that it takes the backend, without the line.
        elements: of a collection that it reads or writes.
        command: its name.
    """

    backend: Backend
    seconds: float
    elements: int = 1
    command: str = "GET"


class TakesRequests(Protocol):
    """A service."""

    def take(self, request: "Request", then: Callable[["Request"], None]) -> None:
        """Take a request in; ``then`` is told when it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """Call another service and wait for its answer."""

    service: TakesRequests
    call: str
    steps: "Sequence[Step]"


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long: a long poll, a stream, somebody's slow body."""

    seconds: float


Step = Compute | Operate | Visit | Wait


class Operation:
    """An operation that runs, or has ended. Times are seconds since the start."""

    __slots__ = ("began_s", "ended_s", "number", "step", "told_s")

    def __init__(self, step: Operate, began_s: float, number: int) -> None:
        self.step = step
        self.began_s = began_s
        self.ended_s: float | None = None
        self.number = number
        self.told_s = 0.0


class Request:
    """One call of one service by one user. Times are seconds since the start.

    Attributes:
        user: who acts; ``None``: nobody is known.
        trace: number of the trace.
        span: number of the server span.
        parent: number of the span above it; 0: none.
        sent_s: when it arrived.
        ended_s: when it was answered; ``None``: it runs.
        waited_s: for its turn, as it was paced.
        status: of HTTP; 0 while it runs.
        entry_id: of the breaker entry that refused it.
        paced: an entry that paces was about it.
        cpu_s: processor time of the steps that have ended.
        task: what computes now.
        operation: what runs in a backend now.
        operated_s: in backends, of operations that have ended.
        elements: of operations that have ended.
    """

    __slots__ = (
        "call", "cpu_s", "elements", "ended_s", "entry_id", "operated_s", "operation",
        "paced", "parent", "running", "sent_s", "span", "status", "steps", "task", "told", "trace",
        "user", "waited_s",
    )  # fmt: skip

    def __init__(
        self, user: str | None, call: str, steps: Sequence[Step], sent_s: float,
        trace: int, span: int, parent: int = 0,
    ) -> None:  # fmt: skip
        self.user, self.call, self.steps = user, call, steps
        self.trace, self.span, self.parent = trace, span, parent
        self.sent_s = sent_s
        self.ended_s: float | None = None
        self.waited_s = 0.0
        self.status = 0
        self.entry_id = ""
        self.paced = False
        self.cpu_s = 0.0
        self.operated_s = 0.0
        self.elements = 0
        self.task: Task | None = None
        self.operation: Operation | None = None
        self.running = False
        self.told: dict[str, float] = {}

    @property
    def refused(self) -> bool:
        """Whether a breaker ended it."""
        return bool(self.entry_id)
