"""Spans or reports: who is charged by which, so that no work is charged twice, and none is not.

A process that sends charge reports is charged by them, and its spans are not; one that sends none
is charged by its spans. The two kinds of message travel apart, so for a moment it may be open by
which a piece of work is charged::

    spans come first     they are charged, and remembered for ten seconds; the reports that cover
                         them charge only what they have beyond them
    reports come first   spans of covered work are let go
    no report yet        spans of a process that reports wait; the next report lets them go
    no report comes      after ten seconds they are charged late, which never counts towards a trip
    reports have ended   after ten seconds spans are charged as they come

A call that was in flight when the last report was made is in it with what it had cost by then, so
of its span only the part after that is charged.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heatshield.charge_report import ChargeReport
from heatshield.clock import Instant
from heatshield_collector.link.charges import CHARGES
from heatshield_collector.link.coverage import Coverage
from heatshield_collector.link.credit import Credit, credited
from heatshield_collector.link.grouping import pairs_of

__all__ = ["SILENT_S", "Reporting"]

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
_Key = tuple[str, str]

SILENT_S: Final = 10.0
"""Seconds without a report after which a process is charged by its spans again: fifty are missing.
For as long it is remembered what was charged from spans, and spans wait for a report."""

INSTANCES_MOST: Final = 20_000
"""Processes remembered; the one that was silent longest goes first."""

ROWS_MOST: Final = 100_000
"""Charges of spans that wait, and that are remembered, each: some 20 MiB. Beyond it the oldest are
let go, and counted."""

LATE_S: Final = 2.0
"""A report that came so much later than its process's reports do is of a backlog: thirty seconds of
work that are told at once would look like a load thirty times as high. It counts, but not towards a
trip."""

KNOWN_S: Final = 1.0
"""So long after its first report it is known how late a process's reports come; until then clocks
are taken to agree."""

DELAYS_S: Final = 10.0
"""Two generations of the least delay are kept, so that a clock that was set is followed."""

_NEVER: Final = np.iinfo(np.int64).max


@dataclass(slots=True)
class _Reporter:
    """A process that reports.

    Attributes:
        first_s: when its first report came, monotonic seconds.
        seen_s: when its last one did.
        coverage: what its reports cover.
        young_s, old_s, born_s: the least delay of reports, in two generations, and since when. A
            delay is of its clock and the collector's monotonic one, so only differences count.
    """

    first_s: float
    seen_s: float
    coverage: Coverage = field(default_factory=Coverage)
    young_s: float = math.inf
    old_s: float = math.inf
    born_s: float = -math.inf

    def is_late(self, at_ns: int, now: Instant) -> bool:
        """Note a report that was made at ``at_ns``; whether it is late."""
        delay_s = now.monotonic_s - at_ns / 1e9
        if now.monotonic_s - self.born_s >= DELAYS_S:
            self.old_s, self.young_s, self.born_s = self.young_s, math.inf, now.monotonic_s
        self.seen_s = now.monotonic_s
        self.young_s = min(self.young_s, delay_s)
        if now.monotonic_s - self.first_s < KNOWN_S:
            return now.epoch_ns - at_ns > LATE_S * 1e9
        return delay_s - min(self.young_s, self.old_s) > LATE_S


@dataclass(slots=True)
class _Batch:
    """Charges of spans that came together.

    Attributes:
        at_s: when, monotonic seconds.
        charges: rows of ``link.CHARGES``.
        spans: for each process in it the first and the last end of a span.
    """

    at_s: float
    charges: pa.Table
    spans: dict[_Key, tuple[int, int]]


class Reporting:
    """Knows which processes report, and what of their spans is still to be charged. Thread-safe.

    Attributes:
        late: reports that came so late that they do not count towards a trip.
        dropped: charges that there was no room for, by cause: ``waiting`` for a report,
            ``remembered`` until one comes.
    """

    def __init__(self) -> None:
        self.late = 0
        self.dropped = {"waiting": 0, "remembered": 0}
        self._reporters: dict[_Key, _Reporter] = {}
        self._first_s: dict[_Key, float] = {}
        self._waiting: deque[_Batch] = deque()
        self._charged: deque[_Batch] = deque()
        self._credit: dict[_Key, list[Credit]] = {}
        self._rows = {"waiting": 0, "remembered": 0}
        self._lock = threading.Lock()

    def covers(self, report: ChargeReport, now: Instant) -> tuple[ChargeReport, bool]:
        """Note a report that has not come before.

        Returns:
            The report without what spans were charged for already, and whether it is late.
        """
        key = (report.service, report.instance)
        begin_ns = report.at_ns - round(report.seconds * 1e9)
        now_s = now.monotonic_s
        with self._lock:
            known = self._reporters.pop(key, None) or _Reporter(now_s, now_s)
            self._reporters[key] = known  # and in again: the dict is by silence
            if len(self._reporters) > INSTANCES_MOST:
                del self._reporters[next(iter(self._reporters))]
            is_late = known.is_late(report.at_ns, now)
            self.late += is_late
            known.coverage.add(begin_ns, report.at_ns)
            credit = self._credit_of(key, now_s)
            return (credited(report, credit) if credit else report), is_late

    def reports(self, charges: pa.Table, now_s: float) -> Booleans:
        """Which rows are of processes that report."""
        group, pairs = pairs_of(charges.column("service"), charges.column("instance"))
        with self._lock:
            known = [self._is_reporting(key, now_s) for key in pairs]
        found: Booleans = np.array(known, dtype=bool)[group]
        return found

    def charged(self, charges: pa.Table, now_s: float) -> pa.Table:
        """Of charges of spans those that are charged now; and what has waited too long."""
        with self._lock:
            now = self._sort_out(charges, now_s) if charges.num_rows else charges
            overdue = self._overdue(now_s)
            self._forget(now_s)
        return pa.concat_tables([now, *overdue]) if overdue else now

    # -- under the lock --------------------------------------------------------------------------

    def _is_reporting(self, key: _Key, now_s: float) -> bool:
        known = self._reporters.get(key)
        return known is not None and now_s - known.seen_s <= SILENT_S

    def _may_report(self, key: _Key, now_s: float) -> bool:
        """Whether a report may yet cover its spans: it is new here, or has reported."""
        if key in self._reporters:
            return True
        first_s = self._first_s.setdefault(key, now_s)
        if len(self._first_s) > INSTANCES_MOST:
            del self._first_s[next(iter(self._first_s))]
        return now_s - first_s <= SILENT_S

    def _sort_out(self, charges: pa.Table, now_s: float) -> pa.Table:
        """What is charged now; what is not now waits, or is charged by reports."""
        group, pairs = pairs_of(charges.column("service"), charges.column("instance"))
        may_report = np.array([self._may_report(key, now_s) for key in pairs], dtype=bool)
        if not may_report.any():
            return charges
        start, end = _times(charges)
        known = [self._reporters.get(key) for key in pairs]
        reports = np.array([self._is_reporting(key, now_s) for key in pairs], dtype=bool)
        first = np.array([one.coverage.first_ns if one else _NEVER for one in known])
        wait = reports[group] & (end > first[group])
        charge, cut = ~wait, np.zeros(len(group), dtype=np.int64)
        for at, one in enumerate(known):
            if one is not None and not reports[at]:
                rows = np.flatnonzero(group == at)
                charge[rows] = ~one.coverage.has(end[rows])
                cut[rows] = one.coverage.before(end[rows])
        if any(known):
            # What goes from no user to its user was charged before; reports name users at once.
            moved = charges.column("transferred").to_numpy()
            moved &= np.array([one is not None for one in known], dtype=bool)[group]
            charge, wait = charge & ~moved, wait & ~moved
        self._put(self._waiting, "waiting", charges, group, pairs, wait, now_s)
        charges = _after(charges, start, end, np.where(charge, cut, 0))
        remembered = charge & may_report[group]
        self._put(self._charged, "remembered", charges, group, pairs, remembered, now_s)
        return charges if charge.all() else charges.filter(pa.array(charge))

    def _put(
        self, batches: deque[_Batch], name: str, charges: pa.Table, group: Integers,
        pairs: list[_Key], rows: Booleans, now_s: float,
    ) -> None:  # fmt: skip
        if not rows.any():
            return
        some = charges if rows.all() else charges.filter(pa.array(rows))
        batches.append(_Batch(now_s, some, _spans(some, group[rows], pairs)))
        self._rows[name] += some.num_rows
        if batches is self._waiting and self._rows[name] > ROWS_MOST:
            self._let_go_covered()
        while self._rows[name] > ROWS_MOST:
            gone = batches.popleft().charges.num_rows
            self._rows[name] -= gone
            self.dropped[name] += gone

    def _credit_of(self, key: _Key, now_s: float) -> list[Credit]:
        """What was charged from spans of a process in the last seconds."""
        credit = [one for one in self._credit.pop(key, ()) if now_s - one.at_s <= SILENT_S]
        for batch in self._charged:
            if batch.spans.pop(key, None) is not None:
                own = pc.and_(
                    pc.equal(batch.charges.column("service"), key[0]),
                    pc.equal(batch.charges.column("instance"), key[1]),
                )
                credit += Credit.of(batch.charges.filter(own), batch.at_s)
        if credit:
            self._credit[key] = credit
        return credit

    def _overdue(self, now_s: float) -> Iterable[pa.Table]:
        """What has waited for a report in vain: charged late, so not towards a trip."""
        found = []
        while self._waiting:
            batch = self._waiting[0]
            is_old = now_s - batch.at_s > SILENT_S
            if not is_old and not self._is_covered(batch):
                break
            self._waiting.popleft()
            self._rows["waiting"] -= batch.charges.num_rows
            if is_old and not self._is_covered(batch):
                late = self._uncovered(batch)
                group, pairs = pairs_of(late.column("service"), late.column("instance"))
                every = np.ones(len(group), dtype=bool)
                self._put(self._charged, "remembered", late, group, pairs, every, now_s)
                found.append(late)
        return [one for one in found if one.num_rows]

    def _let_go_covered(self) -> None:
        """Where one process does not report any more, its spans hold up those of all others."""
        kept = [one for one in self._waiting if not self._is_covered(one)]
        self._waiting.clear()
        self._waiting.extend(kept)
        self._rows["waiting"] = sum(one.charges.num_rows for one in self._waiting)

    def _is_covered(self, batch: _Batch) -> bool:
        for key, (first, last) in batch.spans.items():
            known = self._reporters.get(key)
            if known is None:
                return False
            begins, ends = known.coverage.begins, known.coverage.ends
            if not any(b < first and last <= e for b, e in zip(begins, ends, strict=True)):
                return False
        return True

    def _uncovered(self, batch: _Batch) -> pa.Table:
        charges = batch.charges
        start, end = _times(charges)
        group, pairs = pairs_of(charges.column("service"), charges.column("instance"))
        left, cut = np.ones(len(group), dtype=bool), np.zeros(len(group), dtype=np.int64)
        for at, key in enumerate(pairs):
            if key in self._reporters:
                rows = np.flatnonzero(group == at)
                coverage = self._reporters[key].coverage
                left[rows] = ~coverage.has(end[rows])
                cut[rows] = coverage.before(end[rows])
        charges = _after(charges, start, end, cut).filter(pa.array(left))
        never = pa.repeat(pa.scalar(False, pa.bool_()), charges.num_rows)
        return charges.set_column(CHARGES.get_field_index("eligible"), "eligible", never)

    def _forget(self, now_s: float) -> None:
        while self._charged and now_s - self._charged[0].at_s > SILENT_S:
            self._rows["remembered"] -= self._charged.popleft().charges.num_rows
        # By silence, as each report takes its own out and puts it in again.
        while self._credit:
            key, credit = next(iter(self._credit.items()))
            if now_s - credit[-1].at_s <= SILENT_S:
                break
            del self._credit[key]


def _times(charges: pa.Table) -> tuple[Integers, Integers]:
    start = charges.column("start_ns").to_numpy()
    duration = charges.column("duration_ns").to_numpy()
    return start, start + np.minimum(duration, np.iinfo(np.int64).max - np.maximum(start, 0))


def _spans(charges: pa.Table, group: Integers, pairs: list[_Key]) -> dict[_Key, tuple[int, int]]:
    _, end = _times(charges)
    order = np.argsort(group, kind="stable")
    numbers, first = np.unique(group[order], return_index=True)
    least = np.minimum.reduceat(end[order], first)
    most = np.maximum.reduceat(end[order], first)
    return {
        pairs[number]: (low, high)
        for number, low, high in zip(numbers.tolist(), least.tolist(), most.tolist(), strict=True)
    }


def _after(charges: pa.Table, start: Integers, end: Integers, cut_ns: Integers) -> pa.Table:
    """The part of each charge after a moment within its span: the rest is charged already.

    When within its span a call computed is not known; its elements count when it has ended.
    """
    part = np.flatnonzero((start < cut_ns) & (cut_ns < end))
    if not len(part):
        return charges
    share = (end[part] - cut_ns[part]) / (end[part] - start[part])
    for name, factor in (("busy_us", share), ("calls", 0.0)):
        column = charges.column(name).to_numpy().copy()
        column[part] = np.round(column[part] * factor).astype(np.int64)
        at = CHARGES.get_field_index(name)
        charges = charges.set_column(at, name, pa.array(column))
    return charges
