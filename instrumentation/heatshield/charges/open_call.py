"""A call that runs, or has just ended, with what it has cost and what of that was reported."""

from dataclasses import dataclass

from heatshield.context.request import Request
from heatshield.fork_locks import lock

__all__ = ["OpenCall", "Operation", "ThreadWork"]


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call of this process: a server's, a consumer's or a guard's.

    Only the code that runs the call and the thread that reports write to it, and never the same
    attributes.

    Attributes:
        request: whose user pays for it; a user may be named late.
        call: as breakers name it; empty: the request's, which may be named late.
        trace_id: 128 bits.
        began_ns: by :func:`time.perf_counter_ns`.
        thread: that it began in.
        thread_began_ns: processor time of that thread then; -1: an event loop's, which many calls
            share.
        cpu_ns: processor time that was measured for it otherwise.
        ended_ns: 0 while it runs.
        thread_ended_ns: processor time of its thread at its end; -1: it ended in another.
        is_failed: it ended with an error.
        is_refused: a breaker refused it, so it has cost nothing.
        waited_ns: that it waited in line, as its user is paced.
        elements: of collections.
        rows: of databases.
        bytes: moved.
        backend_ns: time of its operations on backends that have ended.
        cpu_told_ns: what was reported of its processor time,
        wall_told_ns: of its duration,
        backend_told_ns: of its time in backends.
        is_told: that it began was reported.
    """

    request: Request | None
    call: str
    trace_id: int
    began_ns: int
    thread: int
    thread_began_ns: int
    cpu_ns: int = 0
    ended_ns: int = 0
    thread_ended_ns: int = -1
    is_failed: bool = False
    is_refused: bool = False
    waited_ns: int = 0
    elements: int = 0
    rows: int = 0
    bytes: int = 0
    backend_ns: int = 0
    cpu_told_ns: int = 0
    wall_told_ns: int = 0
    backend_told_ns: int = 0
    is_told: bool = False

    @property
    def user(self) -> str | None:
        """Whom it is charged to, as far as that is known by now."""
        return self.request.user if self.request is not None else None

    @property
    def name(self) -> str:
        """The call."""
        return self.call or (self.request.call if self.request is not None else "")


@dataclass(slots=True, eq=False)
class Operation:
    """An operation on a backend, which runs or has ended.

    Attributes:
        request: whose user pays for it.
        call: that it runs in.
        backend: such as ``redis cart:6379``.
        began_ns: by :func:`time.perf_counter_ns`.
        ended_ns: 0 while it runs.
        told_ns: what was reported of its duration.
    """

    request: Request | None
    call: str
    backend: str
    began_ns: int
    ended_ns: int = 0
    told_ns: int = 0
    elements: int = 0
    rows: int = 0
    bytes: int = 0


class ThreadWork:
    """Work of a call that another thread does now.

    Args:
        call: that it is charged to.
        thread: which runs it.
        now_ns: processor time of that thread.
    """

    __slots__ = ("_lock", "_told_ns", "call", "thread")

    def __init__(self, call: OpenCall, thread: int, now_ns: int) -> None:
        self.call, self.thread = call, thread
        self._told_ns = now_ns
        self._lock = lock()

    def note(self, now_ns: int) -> None:
        """Charge what the thread has computed since this was called last."""
        with self._lock:
            spent_ns, self._told_ns = now_ns - self._told_ns, now_ns
            self.call.cpu_ns += max(0, spent_ns)
