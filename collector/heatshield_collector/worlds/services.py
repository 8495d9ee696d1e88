"""Services: instances with workers and processors, which run requests step by step.

Breakers are asked as an instrumented process asks them: each instance has the real
:class:`~heatshield.breakers.lease_table.BreakerTable`, a paced call waits for its turn, a refused
one ends at once.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from heatshield.breakers.lease_table import BreakerTable
from heatshield.contract import BreakerMode
from heatshield_collector.worlds.backends import Backend, Places
from heatshield_collector.worlds.engine import Engine
from heatshield_collector.worlds.processors import EventLoop, Processors, SharedProcessors
from heatshield_collector.worlds.requests import (
    Compute,
    Operate,
    Operation,
    Request,
    Visit,
    Wait,
)

if TYPE_CHECKING:
    from heatshield_collector.worlds.telemetry import Telemetry

__all__ = ["Instance", "Kind", "Service"]

Kind = Literal["threads", "gil", "loop"]
"""How an instance runs requests: threads on as many processors, threads that share one (Python's
lock), or an event loop."""

Then = Callable[[Request], None]

MANY: int = 1_000_000
"""Places of a pool without a limit."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the instances of a service are like.

    Attributes:
        kind: how they run requests.
        workers: threads of each; an event loop takes as many requests as come.
        processors: of each.
        connections: to each backend.
        claims: workers that each says it has; 0: those that it has.
        has_backlog: requests wait for a worker in the socket's backlog, where nobody sees them, and
            breakers are asked once a worker has taken them, as in synchronous WSGI workers. A
            worker that is to wait for a paced call's turn would be lost to all: it refuses.
        reads_late: an event loop sees a request when it gets to read it, not when it came.
    """

    kind: Kind = "gil"
    workers: int = 8
    processors: float = 1.0
    connections: int = MANY
    claims: int = 0
    has_backlog: bool = False
    reads_late: bool = False


class Instance:
    """One process.

    Attributes:
        open: requests that were let in and have not ended.
        pool_wait_s: what requests have waited for connections, together.
        errors: requests to be answered with 500.
        clock_s: what its wall clock is ahead.
    """

    def __init__(self, engine: Engine, service: "Service", name: str, shape: Shape) -> None:
        self.engine, self.service, self.name, self.shape = engine, service, name, shape
        self.processors: Processors = (
            EventLoop(engine)
            if shape.kind == "loop"
            else SharedProcessors(engine, 1.0 if shape.kind == "gil" else shape.processors)
        )
        self.workers = Places(MANY if shape.kind == "loop" else shape.workers)
        chance = random.Random(name)  # noqa: S311 - no secret
        self.table = BreakerTable(service.name, instance=lambda: name, chance=chance.random)
        self.telemetry: Telemetry | None = None
        self.open: dict[int, Request] = {}
        self.pool_wait_s = 0.0
        self.clock_s = 0.0
        self._pools: dict[str, Places] = {}

    @property
    def worker_count(self) -> int:
        """Requests that it can run at once on its processors."""
        return 1 if self.shape.kind == "loop" else self.shape.workers

    # -- admission ---------------------------------------------------------------------------------

    def take(self, request: Request, then: Then, most_wait_s: float = math.inf) -> None:
        """Take a request in, if breakers allow; ``then`` is told when it has ended."""
        if self.shape.has_backlog:
            self.workers.take(partial(self._read, request, then, 0.0))
        elif self.shape.reads_late:
            self.processors.start(0.0, partial(self._read, request, then, most_wait_s))
        else:
            self._admit(request, then, most_wait_s)

    def _read(self, request: Request, then: Then, most_wait_s: float) -> None:
        request.sent_s = self.engine.now_s  # for all that telemetry knows
        self._admit(request, then, most_wait_s)

    def _admit(self, request: Request, then: Then, most_wait_s: float) -> None:
        if self.table.is_idle:
            self._arrive(request, then)
            return
        decision = self.table.decide(
            request.user, request.call, self.service.monotonic_s(), most_wait_s
        )
        entry = decision.entry
        request.paced |= entry is not None and entry.mode is BreakerMode.PACE
        if not decision.allowed:
            request.entry_id = entry.id if entry else "limit"
            if self.shape.has_backlog:
                self.workers.give_back()
            self._end(request, then, decision.status)
        elif decision.delay_s and entry is not None:
            request.waited_s += decision.delay_s
            self.engine.after(decision.delay_s, self._at_turn, request, then, entry.id)
        else:
            self._arrive(request, then)

    def _at_turn(self, request: Request, then: Then, entry_id: str) -> None:
        if self.table.refuses_now(entry_id):
            self._admit(request, then, 0.0)
        else:
            self._arrive(request, then)

    def _arrive(self, request: Request, then: Then) -> None:
        self.open[request.span] = request
        if self.telemetry:
            self.telemetry.began(request)
        if self.shape.has_backlog:
            self._begin(request, then)
        else:
            self.workers.take(partial(self._begin, request, then))

    # -- steps -------------------------------------------------------------------------------------

    def _begin(self, request: Request, then: Then) -> None:
        request.running = True
        self._step(request, then, 0)

    def _step(self, request: Request, then: Then, at: int) -> None:
        if at == len(request.steps):
            self.workers.give_back()
            self._end(request, then, 200)
            return
        step = request.steps[at]
        following = partial(self._step, request, then, at + 1)
        if type(step) is Compute:
            done = partial(self._computed, request, step, following)
            request.task = self.processors.start(step.seconds, done)
        elif type(step) is Operate:
            self._operate(request, step, following)
        elif type(step) is Wait:
            self.engine.after(step.seconds, following)
        elif type(step) is Visit:
            self._visit(request, step, following)

    def _computed(self, request: Request, step: Compute, following: Callable[[], None]) -> None:
        request.task = None
        request.cpu_s += step.seconds
        following()

    def _operate(self, request: Request, step: Operate, following: Callable[[], None]) -> None:
        backend = step.backend
        number = self.service.number()
        operation = request.operation = Operation(step, self.engine.now_s, number)
        pool = self._pools.get(backend.name)
        if pool is None:
            pool = self._pools[backend.name] = Places(self.shape.connections)
        done = partial(self._operated, request, operation, pool, following)
        pool.take(partial(self._serve, operation, backend, done))

    def _serve(self, operation: Operation, backend: Backend, done: Callable[[], None]) -> None:
        self.pool_wait_s += self.engine.now_s - operation.began_s
        backend.serve(operation.step.seconds, done)

    def _operated(
        self, request: Request, operation: Operation, pool: Places, following: Callable[[], None]
    ) -> None:
        pool.give_back()
        operation.ended_s = self.engine.now_s
        request.operation = None
        request.operated_s += operation.ended_s - operation.began_s
        request.elements += operation.step.elements
        if self.telemetry and operation.step.backend.system:
            self.telemetry.operated(request, operation)
        following()

    def _visit(self, request: Request, step: Visit, following: Callable[[], None]) -> None:
        number, began_s = self.service.number(), self.engine.now_s
        child = Request(
            request.user, step.call, step.steps, began_s, request.trace, self.service.number(),
            number,
        )  # fmt: skip

        def answered(answer: Request) -> None:
            if self.telemetry:
                self.telemetry.visited(request, answer, number, began_s)
            following()

        step.service.take(child, answered)

    def _end(self, request: Request, then: Then, status: int) -> None:
        request.status, request.ended_s = status, self.engine.now_s
        request.running = False
        self.open.pop(request.span, None)
        if self.telemetry:
            self.telemetry.ended(request)
        then(request)


class Service:
    """A service of so many equal instances, which get its requests in turn.

    Args:
        engine: of the world.
        name: as telemetry says it.
        count: instances.
        shape: of each.
        number: numbers of spans.
        start_s: the monotonic second at which the world began, by the instances' clocks.
    """

    def __init__(
        self, engine: Engine, name: str, count: int, shape: Shape, number: Callable[[], int],
        start_s: float,
    ) -> None:  # fmt: skip
        self.name = name
        self.number = number
        self._engine = engine
        self._start_s = start_s
        self.instances = [Instance(engine, self, f"{name}-{at}", shape) for at in range(count)]
        self._turn = 0

    def monotonic_s(self) -> float:
        """Of the instances' clocks."""
        return self._start_s + self._engine.now_s

    def take(self, request: Request, then: Then) -> None:
        """Hand a request to the next instance."""
        self._turn += 1
        self.instances[self._turn % len(self.instances)].take(request, then)
