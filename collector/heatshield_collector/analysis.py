"""What happens to spans between decoding and storing: link, charge, measure.

Detection is fed here, on the decode thread, before the disk has the spans.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from heatshield.charge_report import ChargeReport
from heatshield.clock import Instant
from heatshield.contract import RENEW_S
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.detect import Detection, Durations
from heatshield_collector.link import Linked, Linker
from heatshield_collector.link.grouping import pairs_of
from heatshield_collector.link.report_numbers import ReportNumbers
from heatshield_collector.link.reported import Reported, plain
from heatshield_collector.link.reporting import Reporting
from heatshield_collector.link.shown_workers import ShownWorkers
from heatshield_collector.red import groups_of
from heatshield_collector.self_metrics import SelfMetrics

__all__ = ["Analysis"]


class Analysis:
    """Implements :class:`heatshield_collector.pipeline.Charges`.

    Args:
        linker: owned by the thread that calls :meth:`charge`.
        reporting: knows which processes send charge reports; the linker asks it, too.
        shown: told how much instances compute at once.
        detection: told of what was linked.
        durations: told of calls' durations.
        breakers: told which instances live, where a service does not say so itself.
        metrics: told of rates, errors and durations, and of what was committed.
        may_be_hot: called when a batch has a request so costly that evaluation should not wait.
    """

    def __init__(
        self,
        linker: Linker,
        reporting: Reporting,
        shown: ShownWorkers,
        detection: Detection,
        durations: Durations,
        breakers: Breakers,
        metrics: SelfMetrics,
        may_be_hot: Callable[[], None],
    ) -> None:
        self._linker = linker
        self._reporting = reporting
        self._shown = shown
        self._detection = detection
        self._durations = durations
        self._breakers = breakers
        self._metrics = metrics
        self._may_be_hot = may_be_hot
        self._numbers = ReportNumbers()
        self._counting = threading.Lock()
        self._counted = 0

    def charge(self, spans: pa.Table, now: Instant) -> pa.Table:
        """Charge and measure a batch that came at this moment.

        Returns:
            ``model.REQUEST_PARTS``, to be stored with it.
        """
        linked = self.detect(spans, now)
        self._metrics.observe_calls(groups_of(spans, linked.opens, linked.errors))
        self._durations.observe(spans, np.flatnonzero(linked.opens), now)
        return linked.parts

    def detect(self, spans: pa.Table, now: Instant) -> Linked:
        """Link a batch and have detection see it: all of :meth:`charge` that decides anything.

        Rates and durations, which people look at, are measured beside it.
        """
        self._attend(spans, now)
        self._breakers.count_workers(now)
        linked = self._linker.link(spans, now)
        self._shown.charges(linked.charges, now.monotonic_s)
        charges = self._reporting.charged(linked.charges, now.monotonic_s)
        # As it is where no process reports: what is summed up of it is kept.
        told = linked if charges is linked.charges else Linked.of_charges(charges)
        if self._detection.observe(told, now):
            self._may_be_hot()
        return linked

    def report(self, reports: Sequence[ChargeReport], now: Instant) -> list[bool]:
        """Take in charge reports that came at this moment. From any thread.

        Returns:
            Of each whether it was counted; one that came before is not counted again.
        """
        with self._counting:
            plainly = [plain(one) for one in reports]
            counted = [self._numbers.is_new(one) for one in plainly]
            fresh = [one for one, is_new in zip(plainly, counted, strict=True) if is_new]
            self._counted += len(fresh)
            covered = [self._reporting.covers(one, now) for one in fresh]
        for one in fresh:
            self._shown.report(one, now.monotonic_s)
            self._attend_reporter(one, now)
        self._breakers.count_workers(now)
        if covered and self._detection.report(Reported(covered), now):
            self._may_be_hot()
        return counted

    def settle(self, now: Instant) -> None:
        """Charge to no user what has waited for one until this moment."""
        overdue = self._linker.overdue(now).charges
        charges = self._reporting.charged(overdue, now.monotonic_s)
        self._detection.observe(Linked.of_charges(charges), now)

    def committed(self, rows: Mapping[str, int], seconds: float) -> None:
        """A group is durable."""
        self._metrics.received(rows.get("spans", 0), rows.get("logs", 0), rows.get("samples", 0))
        self._metrics.committed(seconds)

    def not_stored(self, spans: pa.Table) -> None:
        """Spans of a group were charged and are not stored: what is stored later counts them."""
        self._linker.not_stored(spans)

    def charged_before(self, spans: pa.Table) -> None:
        """Spans that are stored were charged before this process began; before any batch."""
        self._linker.charged_before(spans)

    def dropped(self) -> dict[str, float]:
        """Charges that were let go, by cause."""
        linker = self._linker
        return {
            "pending_traces": linker.pending.dropped["traces"],
            "pending_spans": linker.pending.dropped["spans"],
            "pending_transfers": linker.pending.dropped["transfers"],
            "waiting_children": linker.tree.evicted,
            "duplicate": linker.seen.duplicates,
            "users_forgotten_early": linker.users.shortened,
            "seen_forgotten_early": linker.seen.shortened,
            "waiting_for_report": self._reporting.dropped["waiting"],
            "report_credit": self._reporting.dropped["remembered"],
        }

    def reports(self) -> dict[str, float]:
        """Charge reports by what became of them."""
        late = self._reporting.late
        return {
            "counted": self._counted - late,
            "late": late,
            "duplicate": self._numbers.duplicates,
            "too_old": self._numbers.forgotten,
        }

    def _attend(self, spans: pa.Table, now: Instant) -> None:
        """Instances that send spans live, also those that watch no breakers."""
        _, pairs = pairs_of(spans.column("service"), spans.column("instance"))
        for service, instance in pairs:
            if not instance:
                continue
            one = self._breakers.instance(service, instance, now)
            if one is None or not one.sends_spans or now.monotonic_s - one.seen_s >= RENEW_S:
                self._breakers.attend(service, instance, now=now)

    def _attend_reporter(self, report: ChargeReport, now: Instant) -> None:
        """An instance that reports lives; what it says of itself is taken in once in a while."""
        state = report.process
        one = self._breakers.instance(report.service, report.instance, now)
        if (
            one is None
            or not one.sends_spans
            or (one.workers, one.processors) != (state.workers, state.processors)
            or now.monotonic_s - one.seen_s >= RENEW_S
        ):
            self._breakers.attend(
                report.service, report.instance, state.workers, now, state.processors
            )
