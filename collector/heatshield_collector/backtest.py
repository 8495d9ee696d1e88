"""What a recording would have led to: detection, rules and policy on virtual time.

::

    spans by their end ─→ every 200 ms what has ended ─→ Simulation ─→ findings, trips

Spans arrive when they end, as exporters send them. Nothing is cut, as the recording has happened
already: trips are what would have been decided, so a user who goes on stays tripped.

Everything that is read from findings and from the audit stands in :class:`_Found` and
:func:`_trips`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from heatshield.clock import Instant, ManualClock
from heatshield_alerts.policy import Policy
from heatshield_alerts.rules import RuleGroup
from heatshield_collector.control.finding_book import QUIET_S
from heatshield_collector.decode.span_columns import completed
from heatshield_collector.detect import Finding
from heatshield_collector.recordings import SortedSpans
from heatshield_collector.settings import CollectorSettings
from heatshield_collector.simulation import Simulation

__all__ = ["Backtest", "FoundRow", "Outcome", "TripRow", "backtest"]

STEP_S: Final = 0.2
"""How often exporters send what has ended."""

SILENT_S: Final = 330.0
"""After so long a silence no window holds anything: the longest is five minutes, and closes by
tens of seconds."""

LOOK_S: Final = 5.0
"""Virtual seconds between looks at whether all is at rest, in a silence."""

AFTERWARDS_S: Final = 1.0
"""Virtual seconds after the last span, in which it can still be found."""

TRIPPING: Final = frozenset({"opened", "escalated"})
"""Changes of the breaker state by which a user's calls are slowed or refused."""

_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A finding over its life. Times are seconds since the recording's first span ended.

    Attributes:
        klass: what it means, as :data:`~heatshield_collector.detect.findings.FindingClass`.
        user, service, call: whom and what it is about; the user may be ``None``.
        opened_s: when it was found first.
        closed_s: when it was found last; ``None``: it was still so at the end.
        reason: one sentence, of when the load was highest.
        figures: of that moment: load, baseline, window, cost, and what the detector measured.
    """

    klass: str
    user: str | None
    service: str
    call: str
    opened_s: float
    closed_s: float | None
    reason: str
    figures: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As ``heatshield replay --json`` has it."""
        row = asdict(self)
        return {"class": row.pop("klass"), **row}


@dataclass(frozen=True, slots=True)
class TripRow:
    """A decision to slow or to refuse a user's calls.

    Attributes:
        user, service, call: whose calls of what; ``None`` and empty: all.
        action: ``pace``, ``reject``, or another mode of breaker entries.
        at_s: when, in seconds since the recording's first span ended.
        reason: one sentence.
    """

    user: str | None
    service: str
    call: str
    action: str
    at_s: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """As ``heatshield replay --json`` has it."""
        return asdict(self)


@dataclass(slots=True)
class Outcome:
    """All that came of a recording.

    Attributes:
        spans: how many there were.
        virtual_seconds: from the end of the first to that of the last.
        began_ns: the end of the first, nanoseconds since the Unix epoch.
        findings: by when they were found first.
        trips: in the order in which they were decided.
        failures: evaluations of rules that failed.
    """

    spans: int = 0
    virtual_seconds: float = 0.0
    began_ns: int = 0
    findings: list[FoundRow] = field(default_factory=list)
    trips: list[TripRow] = field(default_factory=list)
    failures: int = 0

    def to_json(self) -> dict[str, Any]:
        """The one object that ``heatshield replay --json`` prints."""
        return {
            "spans": self.spans,
            "virtual_seconds": round(self.virtual_seconds, 3),
            "findings": [one.to_json() for one in self.findings],
            "trips": [one.to_json() for one in self.trips],
        }


class _Found:
    """Follows findings from round to round: opened, seen again, closed.

    A finding that comes back within ``QUIET_S`` is the same one, as in a collector.
    """

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self._open: dict[tuple[str, str], tuple[FoundRow, float, float]] = {}
        self._closed: list[FoundRow] = []
        self._last_s = began_s

    def note(self, now: Instant, findings: Sequence[Finding]) -> None:
        """A round's findings."""
        now_s = self._last_s = now.monotonic_s
        for one in findings:
            name = (one.klass, one.key.text)
            known = self._open.get(name)
            if known is not None and now_s - known[2] > QUIET_S:
                self._close(name)
                known = None
            if known is None:
                row = _row(one, round(now_s - self._began_s, 3))
                self._open[name] = (row, one.load, now_s)
            elif one.load > known[1]:
                row = _row(one, known[0].opened_s)
                self._open[name] = (row, one.load, now_s)
            else:
                self._open[name] = (known[0], known[1], now_s)

    def rows(self) -> list[FoundRow]:
        """All findings, at the end."""
        for name, (row, _, seen_s) in list(self._open.items()):
            if seen_s < self._last_s:
                self._close(name)
            else:
                self._closed.append(row)
        order: Callable[[FoundRow], Any] = lambda row: (  # noqa: E731 - a key of five parts
            *(row.opened_s, row.klass, row.service, row.call),
            row.user or "",
        )
        return sorted(self._closed, key=order)

    def _close(self, name: tuple[str, str]) -> None:
        row, _, seen_s = self._open.pop(name)
        self._closed.append(replace(row, closed_s=round(seen_s - self._began_s, 3)))


def _row(finding: Finding, opened_s: float) -> FoundRow:
    key = finding.key
    figures = {
        "load": finding.load,
        "baseline": finding.baseline,
        "window": finding.window,
        "cost": finding.cost,
        **finding.figures,
    }
    return FoundRow(
        finding.klass, key.user, key.service, key.call, opened_s, None, finding.reason, figures
    )


def _trips(audit: Iterable[Mapping[str, Any]], began_ns: int) -> list[TripRow]:
    """The decisions among the rows of the audit."""
    return [
        TripRow(
            row["entry"].get("user") or None,
            row["entry"].get("service", ""),
            row["entry"].get("call", ""),
            str(row["entry"].get("mode", "")),
            round((row["at_ns"] - began_ns) / _NS, 3),
            row["reason"] or row["entry"].get("reason", ""),
        )
        for row in audit
        if row["change"] in TRIPPING
    ]


class Backtest:
    """Takes in spans by their end.

    Args:
        began_ns: when the first one ended, nanoseconds since the Unix epoch.
        settings: as a collector's.
        rules: in place of the shipped ones.
        workers: of services.
        policy: what rules may do.
    """

    def __init__(
        self,
        began_ns: int,
        settings: CollectorSettings,
        rules: Iterable[RuleGroup] | None = None,
        workers: Mapping[str, float] | None = None,
        policy: Policy | None = None,
    ) -> None:
        clock = ManualClock(epoch_ns=began_ns)
        self._found = _Found(clock.monotonic())
        self._simulation = Simulation(
            settings, rules, clock=clock, workers=workers, after_round=self._found.note
        )
        if policy is not None:
            self._simulation.breakers.follow_policy(policy, "replay", clock.now())
        self._outcome = Outcome(began_ns=began_ns)

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds so far."""
        return self._simulation.elapsed_s

    def take(self, ends: np.ndarray, spans: pa.Table) -> None:
        """Take in spans, each at the end of the step in which it ended.

        Args:
            ends: int64[n], ascending, and never before those of the last call.
            spans: ``span_columns.DETECTED``.
        """
        whole = completed(spans)
        steps = (ends - self._outcome.began_ns) // round(STEP_S * _NS)
        first = np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))
        until = np.append(first[1:], len(steps))
        for begin, end in zip(first.tolist(), until.tolist(), strict=True):
            at_s = (int(steps[begin]) + 1) * STEP_S
            self._pass(max(0.0, at_s - self._simulation.elapsed_s))
            self._simulation.charge(whole.slice(begin, end - begin))
            self._collect()
        self._outcome.spans += len(ends)
        self._outcome.virtual_seconds = (int(ends[-1]) - self._outcome.began_ns) / _NS

    def end(self) -> Outcome:
        """What came of all of it."""
        self._simulation.advance(AFTERWARDS_S)
        self._collect()
        self._outcome.findings = self._found.rows()
        self._outcome.failures = self._simulation.failures
        return self._outcome

    def _pass(self, seconds: float) -> None:
        """Let time pass; hours without a span cost no rounds once nothing can change any more."""
        if seconds <= SILENT_S:
            self._simulation.advance(seconds)
            return
        self._simulation.advance(SILENT_S)
        left_s = seconds - SILENT_S
        while left_s > LOOK_S and not self._simulation.is_at_rest:
            self._simulation.advance(LOOK_S)
            left_s -= LOOK_S
        self._simulation.skip(left_s)

    def _collect(self) -> None:
        """Take over what control has told, so that days of it are not kept."""
        simulation = self._simulation
        self._outcome.trips += _trips(simulation.rows["audit"], self._outcome.began_ns)
        for rows in simulation.rows.values():
            rows.clear()
        simulation.events.clear()
        simulation.notices.clear()


def backtest(
    spans: SortedSpans,
    settings: CollectorSettings,
    rules: Iterable[RuleGroup] | None = None,
    workers: Mapping[str, float] | None = None,
    policy: Policy | None = None,
    progress: Callable[[int, float], None] = lambda _spans, _virtual_s: None,
) -> Outcome:
    """Play all spans.

    Args:
        spans: that were read.
        settings: as a collector's.
        rules: in place of the shipped ones.
        workers: of services.
        policy: what rules may do.
        progress: told of (spans so far, virtual seconds so far), now and then.
    """
    test: Backtest | None = None
    done = 0
    for ends, table in spans.chunks():
        if test is None:
            test = Backtest(int(ends[0]), settings, rules, workers, policy)
        test.take(ends, table)
        done += table.num_rows
        progress(done, test.elapsed_s)
    return Outcome() if test is None else test.end()
