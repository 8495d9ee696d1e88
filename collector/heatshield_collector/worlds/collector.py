"""The collector at the other end: the real one on virtual time, and the way to it and back."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from heatshield.breakers.reports import Reports
from heatshield.contract import Delta, Report, Snapshot, decode
from heatshield.export.answer import Answer
from heatshield.export.exporter import MIN_BETWEEN_BATCHES_S
from heatshield_collector.simulation import Simulation
from heatshield_collector.worlds.engine import Engine
from heatshield_collector.worlds.services import Instance
from heatshield_collector.worlds.telemetry import FLUSH_S, Faults, Message

__all__ = ["Decision", "RealCollector"]

TRAVEL_S: Final = 0.002
"""Seconds that a message takes, either way."""

AGAIN_S: Final = 1.0
"""Seconds after which a message is sent again whose answer got lost."""

LOOK_S: Final = 0.025
"""Seconds between looks at whether the breaker state has changed, as its stream would tell."""


class Decision(NamedTuple):
    """What was decided about a user.

    Attributes:
        at_s: seconds since the start.
        change: ``opened``, ``escalated``, ``closed`` and so on.
        mode: ``pace`` or ``reject``.
        reason: one sentence for people.
    """

    at_s: float
    change: str
    user: str
    service: str
    call: str
    mode: str
    reason: str


@dataclass(slots=True)
class _Wire:
    """A connection for an instance's reports on its breakers."""

    simulation: Simulation

    def request(
        self, _method: str, _path: str, *, body: bytes, headers: dict[str, str],
        timeout_s: float | None = None,
    ) -> Answer:  # fmt: skip
        del headers, timeout_s
        answer = self.simulation.breakers.report(Report.from_json(decode(body)))
        return Answer(200, {}, json.dumps(answer.to_json()).encode())


class RealCollector:
    """Takes messages in, and tells instances what changed.

    Args:
        engine: of the world.
        simulation: the collector.
        faults: of the way there.
        chance: which messages come twice.

    Attributes:
        late_until_s: messages before it arrive then: the collector is late.
    """

    def __init__(
        self, engine: Engine, simulation: Simulation, faults: Faults, chance: random.Random
    ) -> None:
        self.late_until_s = 0.0
        self.simulation = simulation
        self._engine = engine
        self._faults = faults
        self._chance = chance
        self._instances: Sequence[Instance] = ()
        self._reports: list[Reports] = []
        self._renewed_s: list[float] = []
        self._sent_s: list[float] = []
        self._at: Any = None

    def connect(self, instances: Sequence[Instance]) -> None:
        """Begin to hear of these instances, each at a moment of its own."""
        self._instances = instances
        for at, instance in enumerate(instances):
            wire: Any = _Wire(self.simulation)
            self._reports.append(
                Reports(
                    wire,
                    instance.table,
                    service=instance.service.name,
                    instance=lambda instance=instance: instance.name,  # type: ignore[misc]
                    workers=instance.shape.claims or instance.worker_count,
                    clock=self.simulation.clock,
                )
            )
            self._renewed_s.append(-math.inf)
            self._sent_s.append(0.0)
            phase_s = self._chance.random() * FLUSH_S
            self._engine.after(phase_s, self._tell, at)
        self._engine.after(LOOK_S, self._look)

    def deliver(self, kind: Message, payload: bytes) -> None:
        """A message leaves now."""
        self._engine.at(
            max(self._engine.now_s + TRAVEL_S, self.late_until_s), self._receive, kind, payload
        )
        if self._faults.duplicates and self._chance.random() < self._faults.duplicates:
            self._engine.after(AGAIN_S, self._receive, kind, payload)

    def _receive(self, kind: Message, payload: bytes) -> None:
        self._advance()
        if kind == "report":
            self.simulation.report(payload)
        else:
            self.simulation.receive(payload)

    def _advance(self) -> None:
        self.simulation.advance(max(0.0, self._engine.now_s - self.simulation.elapsed_s))

    # -- instances ---------------------------------------------------------------------------------

    def _tell(self, at: int) -> None:
        """An instance looks whether a message is due, twenty times a second at most."""
        instance, now_s = self._instances[at], self._engine.now_s
        telemetry = instance.telemetry
        age_s = now_s - self._sent_s[at]
        if telemetry and (telemetry.urgent or age_s >= FLUSH_S - 1e-6):
            self._sent_s[at] = now_s
            telemetry.flush(now_s)
        self._engine.after(MIN_BETWEEN_BATCHES_S, self._tell, at)

    def _look(self) -> None:
        self._advance()
        breakers = self.simulation.breakers
        now_s = self.simulation.clock.monotonic()
        changed = breakers.at() != self._at
        self._at = breakers.at()
        for at, instance in enumerate(self._instances):
            table = instance.table
            if now_s - self._renewed_s[at] >= table.renew_every_s:
                self._renewed_s[at] = now_s
                table.apply(_sent(Snapshot, breakers.snapshot()), now_s)
            elif changed and table.at != self._at:
                delta = None if table.at is None else breakers.delta_since(table.at)
                found = _sent(Snapshot, breakers.snapshot()) if delta is None else delta
                if isinstance(found, Delta):
                    found = _sent(Delta, found)
                table.apply(found, self._renewed_s[at])
            if now_s >= self._reports[at].due_at or changed:
                self._reports[at].send_due(now_s)
        self._engine.after(LOOK_S, self._look)

    # -- what was decided --------------------------------------------------------------------------

    def decisions(self, start_ns: int) -> list[Decision]:
        """What was decided about users, by time."""
        found = []
        for row in self.simulation.rows["audit"]:
            entry = row["entry"]
            if entry and entry.get("user") and row["change"] != "refused":
                at_s = (row["at_ns"] - start_ns) / 1e9
                said = (entry["user"], entry["service"], entry["call"], entry["mode"])
                found.append(Decision(at_s, row["change"], *said, row["reason"]))
        return found


def _sent(kind: Any, value: Any) -> Any:
    return kind.from_json(decode(json.dumps(value.to_json()).encode()))
