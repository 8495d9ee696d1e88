"""A call that runs, or has just ended, with what it has cost and what of that was reported."""

from heatshield.context.request import Request

__all__ = ["OpenCall", "Operation", "ThreadWork"]


class OpenCall:
    """A call of this process: a server's, a consumer's or a guard's.

    The code that runs the call writes what it costs, and the thread that reports what was told, so
    neither takes a lock. Sums only grow, and what is told is what they have grown by: a sum that is
    read in the midst of a change is made good by the next report.

    Most calls set few of the attributes, so the others stand in the class.

    Attributes:
        request: whose user pays for it; a user may be named late.
        call: as breakers name it; empty: the request's, which may be named late.
        trace_id: 128 bits.
        began_ns: by :func:`time.perf_counter_ns`.
        ended_ns: 0 while it runs.
        thread: that it computes in.
        thread_began_ns: processor time of that thread when it began to compute for this call; -1
            while it does not.
        cpu_ns: processor time, without that since then.
        parent: the call around this guard, whose processor time is measured;
        base_ns: how much that was when the guard began.
        guarded_cpu_ns: processor time of guards within that have ended, which is theirs,
        guarded_wall_ns: and their duration.
        is_apart: a guard in a task beside its request's, which is the one that waits.
        is_failed: it ended with an error.
        is_refused: a breaker refused it, so it has cost nothing.
        elements: of collections.
        rows: of databases.
        bytes: moved.
        backend_ns: time of its operations on backends, as far as it was told.
        cpu_told_ns: what was reported of its processor time,
        wait_told_ns: and of its waiting.
        is_told: that it began was reported,
        is_closed: and that it has ended.
    """

    call = ""
    ended_ns = 0
    thread_began_ns = -1
    cpu_ns = 0
    parent: "OpenCall | None" = None
    base_ns = 0
    guarded_cpu_ns = 0
    guarded_wall_ns = 0
    is_apart = False
    is_failed = False
    is_refused = False
    elements = 0
    rows = 0
    bytes = 0
    backend_ns = 0
    cpu_told_ns = 0
    wait_told_ns = 0
    is_told = False
    is_closed = False

    def __init__(self, request: Request | None, trace_id: int, began_ns: int, thread: int) -> None:
        self.request = request
        self.trace_id = trace_id
        self.began_ns = began_ns
        self.thread = thread

    @property
    def user(self) -> str | None:
        """Whom it is charged to, as far as that is known by now."""
        return self.request.user if self.request is not None else None

    @property
    def name(self) -> str:
        """The call."""
        return self.call or (self.request.call if self.request is not None else "")

    @property
    def waited_ns(self) -> int:
        """How long it has waited in line; a guard never does."""
        return 0 if self.parent or self.request is None else int(self.request.waited_s * 1e9)

    @property
    def outermost(self) -> "OpenCall":
        """The call that is measured: this one, or the one around this guard."""
        return self if self.parent is None else self.parent.outermost

    @property
    def is_let_in(self) -> bool:
        """Whether it is known by now that it is not refused."""
        request = self.request
        return bool(self.call or request is None or (request.entered and not request.in_line))


class Operation:
    """An operation on a backend, which runs or has ended.

    Attributes:
        request: whose user pays for it.
        owner: the call that it is part of.
        call: the name of that call.
        backend: such as ``redis cart:6379``.
        began_ns: by :func:`time.perf_counter_ns`.
        ended_ns: 0 while it runs.
        told_ns: what was reported of its duration.
        is_blocking: it waits in the backend and uses nothing of it: its time is its call's wait.
        elements: of collections.
        rows: of databases.
        bytes: moved.
    """

    ended_ns = 0
    told_ns = 0
    is_blocking = False
    elements = 0
    rows = 0
    bytes = 0

    def __init__(
        self,
        request: Request | None,
        owner: OpenCall | None,
        call: str,
        backend: str,
        began_ns: int,
    ) -> None:
        self.request = request
        self.owner = owner
        self.call = call
        self.backend = backend
        self.began_ns = began_ns


class ThreadWork:
    """Work of a call that another thread does now.

    Args:
        call: that it is charged to.
        thread: which runs it.
        began_ns: processor time of that thread when it began.
    """

    __slots__ = ("began_ns", "call", "thread")

    def __init__(self, call: OpenCall, thread: int, began_ns: int) -> None:
        self.call, self.thread, self.began_ns = call, thread, began_ns
