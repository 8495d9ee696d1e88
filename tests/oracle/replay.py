"""Replays a recording through the collector's own parts and writes down all that came of it.

``python tests/oracle/replay.py [SEED]`` prints the transcript of a replay in a process of its own.
"""

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from heat_harms import heat_harms
from recording import EPOCH_NS, LASTS_S, Sent, recording

from heatshield.clock import ManualClock
from heatshield.contract import PlatformMode, Rejections, Report
from heatshield_alerts.rules import SHIPPED_RULES, load_file, load_text
from heatshield_collector.ports import TripRequest
from heatshield_collector.settings import CollectorSettings
from heatshield_collector.simulation import Simulation

BUSY = """
groups:
  - name: recorded
    interval: 1s
    rules:
      - alert: Busy
        expr: heatshield_user_load{cost="calls", window="1s"} > 0
        labels: {user: "{{ $labels.user }}"}
"""
"""Fires for every user with a request, so that many alerts begin and end in one round."""

COLD_START_S = 20.0
WORKERS = 4


class Replay:
    """One replay: a simulation, what its clients do, and the transcript."""

    def __init__(self) -> None:
        self.clock = ManualClock(epoch_ns=EPOCH_NS)
        settings = CollectorSettings(mode="protect", cold_start_s=COLD_START_S)
        rules = [*load_file(Path(str(SHIPPED_RULES))), *load_text(BUSY)]
        self.simulation = Simulation(
            settings, rules, clock=self.clock, epoch=7, seed=5, detectors=heat_harms
        )
        self.states: list[Any] = []
        self._at = self.simulation.breakers.at()
        for number in range(2):
            self.simulation.breakers.attend("shop", f"shop-{number}", WORKERS)

    def run(self, sent: list[Sent]) -> None:
        """Play the recording, with what people and clients do meanwhile."""
        for at_s, together in groupby(sent, key=lambda one: one.at_s):
            self.until(at_s)
            self.simulation.receive(*(one.payload for one in together))
            self.look()
            self.act(at_s)
        self.until(LASTS_S + 5.0)

    def until(self, at_s: float) -> None:
        """Let time pass, looking at the breaker state as often as a client of the stream would."""
        while self.simulation.elapsed_s < at_s:
            self.simulation.advance(min(0.05, at_s - self.simulation.elapsed_s))
            self.look()

    def look(self) -> None:
        """Keep the delta that a client would be sent, and the snapshot that it must amount to."""
        at = self.simulation.breakers.at()
        if at != self._at:
            delta = self.simulation.breakers.delta_since(self._at)
            self.states.append(delta.to_json() if delta else None)
            self.states.append(self.simulation.breakers.snapshot().to_json())
            self._at = at

    def act(self, at_s: float) -> None:
        """What an instance reports of its refusals, and a person does, at fixed times."""
        breakers = self.simulation.breakers
        if at_s == round(at_s):
            rows = tuple(
                Rejections(entry.id, 3, entry.user, entry.service, entry.call)
                for entry in breakers.snapshot().entries
                if at_s < 27.0
            )
            breakers.report(Report("shop", "shop-0", WORKERS, breakers.at(), rows))
        if at_s == 30.0:
            request = TripRequest("unknown", "shop", "POST /purchases", issuer="human:ann")
            entry = breakers.trip(request)
            breakers.set_mode(PlatformMode.SHADOW, "human:ann")
            breakers.clear(entry.id, "ann")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """What would have been stored."""
        return self.simulation.rows[table]

    def transcript(self) -> bytes:
        """All of it as JSON, in the order in which it was told; no key is sorted."""
        simulation = self.simulation
        told = {
            "rows": simulation.rows,
            "events": simulation.events,
            "notices": [[alert.to_json(), traces] for alert, traces in simulation.notices],
            "states": self.states,
            "series": [[sample.labels.pairs, sample.value] for sample in simulation.samples()],
            "dropped": simulation.dropped(),
        }
        return json.dumps(told, indent=1).encode()


def replay(seed: int = 1) -> Replay:
    """Replay the recording of a seed, in freshly composed parts."""
    done = Replay()
    done.run(recording(seed))
    return done


if __name__ == "__main__":
    sys.stdout.buffer.write(replay(int(sys.argv[1]) if sys.argv[1:] else 1).transcript())
