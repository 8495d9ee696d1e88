"""Detection, rules and breakers on one manual clock, and doubles of all that they tell."""

import json
from pathlib import Path

from charge_rows import Traffic, charge, linked
from heat_harms import heat_harms

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import ManualClock
from heatshield.contract import (
    PlatformMode,
    StateVersion,
)
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.rules import SHIPPED_RULES, RuleRunner, load_file
from heatshield_collector.control import Breakers, ControlLoop, Outlets
from heatshield_collector.detect import PANE_S, Detection
from heatshield_collector.link import Linked

COLD_START_S = 120.0
BASE = StateVersion(3, 0)


class Journaled:
    """A journal that keeps what it is given."""

    def __init__(self):
        self.rows = []
        self.kept = {}

    def write(self, table, row):
        self.rows.append((table, row))

    def keep(self, kind, changed):
        self.kept.setdefault(kind, {}).update(changed)

    def of(self, table):
        return [row for name, row in self.rows if name == table]


class Heard:
    """The hub, as who listens to everything hears it."""

    def __init__(self):
        self.events = []

    def publish(self, name, data):
        assert data["at_ns"] > 0
        json.dumps(data)
        self.events.append((name, data))

    def of(self, name):
        return [data for of, data in self.events if of == name]


class Told:
    """Alerts that people are told of; fails while it is told to."""

    def __init__(self):
        self.alerts = []
        self.done = []
        self.submitted = []

    def submit(self, alert, trace_ids=()):
        self.done.append(alert.outcome.text if alert.outcome else "")
        self.submitted.append(alert)
        self.alerts.append((alert.state.value, dict(alert.labels), list(trace_ids)))


class Platform:
    """Detection, rules and breakers on one manual clock, without a thread."""

    def __init__(self, mode=PlatformMode.PROTECT, rules=None, cold_start_s=COLD_START_S):
        self.clock, self.events, self.journal = ManualClock(), Heard(), Journaled()
        self.notifier, self.rejected = Told(), []
        self.state = None
        outlets = Outlets(self.journal, self.events, self.notifier, self.keep_state)
        self.breakers = Breakers(
            BreakerControl(3, mode),
            outlets,
            lambda *row: self.rejected.append(row),
            self.clock,
            cost_per_call=lambda key: self.detection.loads.cost_per_call_of(
                key, self.clock.monotonic()
            ),
        )
        self.detection = Detection(
            lambda service: self.breakers.workers_of(service) or 1.0, detectors=heat_harms
        )
        self.loop = ControlLoop(
            self.detection,
            RuleRunner(rules or load_file(Path(str(SHIPPED_RULES)))),
            self.breakers,
            outlets,
            self.clock,
            cold_start_s,
        )
        self._traffic = Traffic(1.0, seed=3, users=50, rate=20.0, load=0.2)
        self._traces = 10**6
        self.breakers.attend("shop", "i-1", 4)
        self.breakers.attend("shop", "i-2", 4)
        self.breakers.count_workers(self.clock.now())

    def keep_state(self, epoch, control):
        """What a restart would find."""
        assert epoch == BASE.epoch
        self.state = json.loads(json.dumps(control))

    def warm(self, seconds=130):
        """Ordinary traffic, by default for a little longer than a cold start lasts."""
        for _ in range(seconds // 10):
            self.detection.observe(
                Linked.of_charges(next(self._traffic.past(10))), self.clock.now()
            )
            self.clock.advance(10)
            self.breakers.attend("shop", "i-1", 4)
            self.breakers.attend("shop", "i-2", 4)
        self.loop.round(self.clock.now())
        return self

    def work(self, workers, user="hot"):
        """Charges of a quarter of a second in which ``user`` keeps some workers busy."""
        rows = []
        for _ in range(round(workers * PANE_S * 1_000 / 50)):
            self._traces += 1
            rows.append(charge(user, 50, trace=self._traces))
        self.detection.observe(linked(rows), self.clock.now())
        self.clock.advance(PANE_S)

    def step(self, *, workers=0.0, user="hot"):
        """A quarter of a second of work, and a round."""
        self.work(workers, user)
        self.loop.round(self.clock.now())

    def burn(self, seconds, workers=2.0, user="hot"):
        for _ in range(round(seconds / PANE_S)):
            self.step(workers=workers, user=user)

    def held(self):
        return [(key, state) for key, state, _ in self.breakers.held()]


HOT = CallKey(DEFAULT_TENANT, "hot", "shop", "POST /p")
