"""Charge reports, as an instrumented process sends them: what its users cost, finished or not.

Costs are told as they arise: of a request that runs, what it has cost since the last report; at its
end only the rest. See :mod:`heatshield.charge_report` for the message.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from heatshield.charge_report import (
    MAX_OPERATIONS,
    MAX_PAIRS,
    MAX_TRACES,
    BackendDurationCount,
    BackendTime,
    ChargeReport,
    DurationCount,
    Pair,
    ProcessState,
    bucket_of,
)
from heatshield.charge_report import Operation as ToldOperation
from heatshield.export.exporter import MIN_BETWEEN_BATCHES_S
from heatshield.export.urgency import Urgency
from heatshield_collector.worlds.requests import Operation, Request
from heatshield_collector.worlds.services import Instance
from heatshield_collector.worlds.telemetry import FLUSH_S, Deliver, Faults

__all__ = ["ChargeEmitter"]

IDLE_S: Final = 1.0
"""Seconds between the reports of a process that has nothing to tell."""

EARLY_S: Final = 1e-6
"""Sums of seconds are no more exact."""

ERROR: Final = 500

_Key = tuple[str | None, str]


@dataclass(slots=True)
class _Costs:
    """Of one user on one call, since the last report. Seconds, but for counts."""

    cpu_s: float = 0.0
    wait_s: float = 0.0
    elements: int = 0
    calls: int = 0
    errors: int = 0
    backends: dict[str, list[float]] = field(default_factory=dict)  # seconds, operations
    durations: Counter[int] = field(default_factory=Counter)
    traces: list[tuple[float, int]] = field(default_factory=list)

    def in_backend(self, name: str, seconds: float, operations: int) -> None:
        spent = self.backends.setdefault(name, [0.0, 0.0])
        spent[0] += seconds
        spent[1] += operations

    @property
    def weight(self) -> float:
        """By which the costliest are found."""
        return self.cpu_s + sum(spent for spent, _ in self.backends.values()) + 1e-6 * self.calls

    def add(self, other: "_Costs") -> None:
        self.cpu_s += other.cpu_s
        self.wait_s += other.wait_s
        self.elements += other.elements
        self.calls += other.calls
        self.errors += other.errors
        self.durations += other.durations
        for name, (seconds, operations) in other.backends.items():
            self.in_backend(name, seconds, round(operations))


class ChargeEmitter:
    """Makes the reports of one instance.

    Args:
        instance: whose.
        epoch_ns: wall clock at the world's start.
        faults: what is wrong with them.
        deliver: takes a report.
    """

    def __init__(self, instance: Instance, epoch_ns: int, faults: Faults, deliver: Deliver) -> None:
        self.urgent = False
        self._urgency = Urgency()
        self._instance = instance
        self._epoch_ns = epoch_ns
        self._names = faults.names_user(instance.service.name)
        self._tells_queues = faults.tells_queues
        self._deliver = deliver
        self._costs: dict[_Key, _Costs] = defaultdict(_Costs)
        self._operations: list[tuple[_Key, Operation]] = []
        self._backends: Counter[tuple[str, int]] = Counter()
        self._number = 0
        self._sent_s = 0.0
        self._told_busy_s = 0.0
        self._told_pool_s = 0.0

    def began(self, request: Request) -> None:
        """Count a call."""
        self._costs[self._key(request)].calls += 1

    def operated(self, request: Request, operation: Operation) -> None:
        """Charge what of the operation was not told while it ran."""
        step, seconds = operation.step, (operation.ended_s or 0.0) - operation.began_s
        key = self._key(request)
        costs = self._costs[key]
        costs.elements += step.elements
        costs.in_backend(step.backend.name, max(0.0, seconds - operation.told_s), 1)
        request.told["operated"] = request.told.get("operated", 0.0) + seconds - operation.told_s
        self._backends[step.backend.name, bucket_of(seconds * 1e6)] += 1
        self._operations.append((key, operation))
        self.urgent |= self._urgency.judge(step.command, seconds, step.elements)

    def visited(self, request: Request, answer: Request, number: int, began_s: float) -> None:
        """A visit is the other service's cost, and a wait here."""

    def ended(self, request: Request) -> None:
        """Charge the rest."""
        if request.refused:
            return
        costs = self._costs[self._key(request)]
        self._charge(costs, request, request.ended_s or 0.0)
        seconds = (request.ended_s or 0.0) - request.sent_s - request.waited_s
        costs.durations[bucket_of(seconds * 1e6)] += 1
        costs.errors += request.status >= ERROR
        self.urgent |= self._urgency.judge(request.call, seconds, 0)
        costs.traces.append((request.cpu_s + request.operated_s, request.trace))

    def flush(self, now_s: float) -> None:
        """Send a report."""
        seconds = now_s - self._sent_s
        is_idle = not (self._costs or self._operations or self._instance.open)
        due_s = IDLE_S if is_idle else MIN_BETWEEN_BATCHES_S if self.urgent else FLUSH_S
        if seconds < due_s - EARLY_S:
            return
        self.urgent = False
        self._sent_s = now_s
        for request in self._instance.open.values():
            self._charge(self._costs[self._key(request)], request, now_s)
        self._number += 1
        report = self._report(now_s, seconds)
        self._costs = defaultdict(_Costs)
        self._operations, self._backends = [], Counter()
        self._deliver("report", json.dumps(report.to_json()).encode())

    # -- costs -------------------------------------------------------------------------------------

    def _key(self, request: Request) -> _Key:
        return (request.user if self._names else None, request.call)

    def _charge(self, costs: _Costs, request: Request, now_s: float) -> None:
        """What a request has cost since it was told of last."""
        told = request.told
        cpu_s = request.cpu_s
        if request.task is not None:
            cpu_s += self._instance.processors.used_s(request.task)
        running = request.operation
        if running is not None and running.step.backend.system:
            in_it_s = now_s - running.began_s
            costs.in_backend(running.step.backend.name, in_it_s - running.told_s, 0)
            told["operated"] = told.get("operated", 0.0) + in_it_s - running.told_s
            running.told_s = in_it_s
        open_s = now_s - request.sent_s - request.waited_s
        wait_s = max(0.0, open_s - cpu_s - told.get("operated", 0.0))
        if request.ended_s is None:
            costs.traces.append((cpu_s + told.get("operated", 0.0), request.trace))
        costs.cpu_s += cpu_s - told.get("cpu", 0.0)
        costs.wait_s += max(0.0, wait_s - told.get("wait", 0.0))
        told["cpu"], told["wait"] = cpu_s, max(wait_s, told.get("wait", 0.0))

    # -- the message -------------------------------------------------------------------------------

    def _report(self, now_s: float, seconds: float) -> ChargeReport:
        kept = self._with_rest()
        places = {key: at for at, (key, _) in enumerate(kept)}
        instance = self._instance
        return ChargeReport(
            service=instance.service.name,
            instance=instance.name,
            number=self._number,
            at_ns=self._epoch_ns + round((now_s + instance.clock_s) * 1e9),
            seconds=seconds,
            process=self._process(),
            pairs=[_pair(key, costs) for key, costs in kept],
            backend_us=[
                BackendTime(places[key], name, round(spent * 1e6), round(many))
                for key, costs in kept
                for name, (spent, many) in costs.backends.items()
            ],
            backend_durations=[
                BackendDurationCount(name, bucket, many)
                for (name, bucket), many in self._backends.items()
            ],
            durations=self._durations(kept, places, now_s),
            operations=self._told_operations(places, now_s),
        )

    def _with_rest(self) -> list[tuple[_Key, _Costs]]:
        """The costliest pairs, and one rest a call."""
        pairs = sorted(self._costs.items(), key=lambda pair: -pair[1].weight)
        kept = pairs[:MAX_PAIRS]
        rest: dict[_Key, _Costs] = {}
        for (_, call), costs in pairs[MAX_PAIRS:]:
            rest.setdefault(("", call), _Costs()).add(costs)
        return [*kept, *rest.items()]

    def _process(self) -> ProcessState:
        instance, tells = self._instance, self._tells_queues
        busy_s, pool_s = instance.processors.busy_s(), instance.pool_wait_s
        state = ProcessState(
            cpu_us=round((busy_s - self._told_busy_s) * 1e6),
            processors=instance.processors.count,
            workers=instance.shape.claims or instance.worker_count,
            running=len(instance.open),
            queued=instance.workers.queued if tells else 0,
            loop_lag_us=round(instance.processors.lag_s() * 1e6) if tells else 0,
            pool_wait_us=round((pool_s - self._told_pool_s) * 1e6) if tells else 0,
        )
        self._told_busy_s, self._told_pool_s = busy_s, pool_s
        return state

    def _durations(
        self, kept: Sequence[tuple[_Key, _Costs]], places: dict[_Key, int], now_s: float
    ) -> list[DurationCount]:
        ended = [
            DurationCount(places[key], bucket, many)
            for key, costs in kept
            for bucket, many in costs.durations.items()
        ]
        running: Counter[tuple[int, int]] = Counter()
        for request in self._instance.open.values():
            open_s = now_s - request.sent_s - request.waited_s
            place = self._place(places, self._key(request))
            running[place, bucket_of(open_s * 1e6)] += 1
        return [*ended, *(DurationCount(*row, many, open=True) for row, many in running.items())]

    def _told_operations(self, places: dict[_Key, int], now_s: float) -> list[ToldOperation]:
        found = [(key, one) for key, one in self._operations]
        found += [
            (self._key(request), request.operation)
            for request in self._instance.open.values()
            if request.operation is not None and request.operation.step.backend.system
        ]
        found.sort(key=lambda row: (row[1].ended_s or now_s) - row[1].began_s, reverse=True)
        return [
            ToldOperation(
                self._place(places, key),
                one.step.backend.name,
                round((now_s - one.began_s) * 1e6),
                None if one.ended_s is None else round((one.ended_s - one.began_s) * 1e6),
            )
            for key, one in found[:MAX_OPERATIONS]
        ]

    @staticmethod
    def _place(places: dict[_Key, int], key: _Key) -> int:
        return places[key] if key in places else places["", key[1]]


def _pair(key: _Key, costs: _Costs) -> Pair:
    user, call = key
    costliest = sorted(costs.traces, reverse=True)[:MAX_TRACES] if user else ()
    return Pair(
        user,
        call,
        cpu_us=round(costs.cpu_s * 1e6),
        wait_us=round(costs.wait_s * 1e6),
        elements=costs.elements,
        calls=costs.calls,
        errors=costs.errors,
        traces=tuple(f"{trace:032x}" for _, trace in costliest),
    )
