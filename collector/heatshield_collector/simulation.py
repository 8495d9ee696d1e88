"""A collector's decisions on virtual time: the same parts, driven by one thread, without a disk.

What recorded or made-up telemetry would lead to can be asked in seconds, and gives the same answer
each time::

    simulation = Simulation()
    simulation.breakers.attend("shop", "i-1", workers=4)
    simulation.replay((Sent(0.2, payload), Sent(0.4, another)))
    print(simulation.rows["findings"], simulation.breakers.snapshot())

Time stands still while a payload is taken in and while a round of control is evaluated. Rounds are
where the control thread has them: every 250 ms, and at once after a batch that may have made a user
hot, with the same gap after it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heatshield.clock import Instant, ManualClock
from heatshield_alerts.rules import SHIPPED_RULES, Alert, RuleGroup, load_file
from heatshield_alerts.series import Sample
from heatshield_collector.control import Outlets
from heatshield_collector.control.loop import EARLY_GAP_S
from heatshield_collector.core import Core
from heatshield_collector.decode import decode_traces
from heatshield_collector.detect import PANE_S, Finding, MakesDetectors, all_detectors
from heatshield_collector.intake.charge_reports import report_of
from heatshield_collector.pipeline.gather import IDLE_S
from heatshield_collector.settings import CollectorSettings

__all__ = ["Sent", "Simulation"]

AfterRound: TypeAlias = Callable[[Instant, Sequence[Finding]], None]

DECODE_AHEAD: Final = 64
"""Payloads of a recording that are decoded at once: small ones cost mostly the call, so that a
quiet hour is decoded ten times as fast."""


class Sent(NamedTuple):
    """A payload of a recording: an OTLP export request of spans.

    Attributes:
        at_s: when it is received, in seconds since the start of the simulation.
        payload: its bytes.
    """

    at_s: float
    payload: bytes


class _Told:
    """All that control tells, kept in order."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {"findings": [], "alerts": [], "audit": []}
        self.events: list[tuple[str, Any]] = []
        self.notices: list[tuple[Alert, tuple[str, ...]]] = []

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        self.rows[table].append(dict(row))

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        """A simulation ends for good."""

    def publish(self, name: str, data: Any) -> None:
        self.events.append((name, data))

    def submit(self, alert: Alert, trace_ids: Sequence[str] = ()) -> None:
        self.notices.append((alert, tuple(trace_ids)))


class Simulation:
    """Decode, linking, detection, rules and breakers on a manual clock.

    Args:
        settings: as a collector's; those of its store and its addresses mean nothing here.
        rules: in place of the shipped ones.
        clock: where the time starts.
        epoch: of the breaker state; ids begin with it.
        seed: of the hashes of detectors.
        detectors: in place of those of a collector.
        workers: of services, in place of what their instances say.
        after_round: told of each round's moment and findings.

    Attributes:
        clock: moved by :meth:`advance` alone.
        breakers: the breaker state, as clients ask for it and report to it.
        detection: loads, as the API shows them.
        rows: what a collector would have stored, by table: ``findings``, ``alerts``, ``audit``.
        events: what it would have told listeners, as (name, data).
        notices: the alerts that it would have told people of, each with its trace ids.
    """

    def __init__(
        self,
        settings: CollectorSettings | None = None,
        rules: Iterable[RuleGroup] | None = None,
        *,
        clock: ManualClock | None = None,
        epoch: int = 1,
        seed: int = 0,
        detectors: MakesDetectors = all_detectors,
        workers: Mapping[str, float] | None = None,
        after_round: AfterRound | None = None,
    ) -> None:
        self._after_round = after_round
        self.clock = clock or ManualClock()
        told = _Told()
        self.rows, self.events, self.notices = told.rows, told.events, told.notices
        core = Core(
            settings or CollectorSettings(),
            load_file(Path(str(SHIPPED_RULES))) if rules is None else rules,
            epoch=epoch,
            outlets=Outlets(journal=told, events=told, notifier=told),
            clock=self.clock,
            seed=seed,
            wake=self._wake,
            detectors=detectors,
            workers=workers,
        )
        self.breakers, self.detection = core.breakers, core.detection
        self._control, self._analysis = core.control, core.analysis
        self._began_s = self.clock.monotonic()
        self._listens_s = self._began_s
        self._batch_s = self._began_s
        self._woken = False

    @property
    def elapsed_s(self) -> float:
        """Virtual seconds since the start."""
        return self.clock.monotonic() - self._began_s

    @property
    def failures(self) -> int:
        """Rules that could not be evaluated, so far."""
        return self._control.failures

    def dropped(self) -> dict[str, float]:
        """Charges that linking let go of, by cause."""
        return self._analysis.dropped()

    def reports(self) -> dict[str, float]:
        """Charge reports by what became of them."""
        return self._analysis.reports()

    def samples(self) -> Iterator[Sample]:
        """The series of this moment, as ``/metrics`` has them."""
        return self._control.samples()

    def replay(self, recording: Iterable[Sent]) -> None:
        """Take in payloads at their times, those of one time together.

        Args:
            recording: by time.

        Raises:
            DecodeError: if one is no export request of spans.
        """
        rest = iter(recording)
        while ahead := list(islice(rest, DECODE_AHEAD)):
            # Stamped with one time of receipt, which the store keeps and nothing here looks at.
            decoded = decode_traces([one.payload for one in ahead], self.clock.time_ns())
            rows = np.array([_spans_in(one.payload) for one in ahead]) - decoded.rejected
            start = 0
            for at_s, together in groupby(zip(ahead, rows.tolist(), strict=True), _at_s):
                count = sum(count for _, count in together)
                self.advance(max(0.0, at_s - self.elapsed_s))
                self.charge(decoded.table.slice(start, count))
                start += count

    def receive(self, *payloads: bytes) -> int:
        """Take in OTLP export requests of spans, together, at this moment.

        Returns:
            How many spans they had.

        Raises:
            DecodeError: if one is none; then nothing was taken in.
        """
        spans = decode_traces(payloads, self.clock.time_ns()).table
        self.charge(spans)
        return int(spans.num_rows)

    def report(self, *bodies: bytes) -> list[bool]:
        """Take in charge reports (JSON, as ``POST /v1/charges`` has them) at this moment.

        Returns:
            Of each whether it was counted; one that came before is not counted again.

        Raises:
            MalformedError: if one is none; then nothing was taken in.
        """
        counted = self._analysis.report([report_of(body) for body in bodies], self.clock.now())
        self.advance(0.0)
        return counted

    def charge(self, spans: pa.Table) -> None:
        """Take in decoded spans (``model.SPANS``) at this moment."""
        now = self.clock.now()
        self._analysis.detect(spans, now)
        self._batch_s = now.monotonic_s
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that is due in it."""
        ends_s = self.clock.monotonic() + seconds
        while True:
            round_s, idle_s = self._round_s(), self._batch_s + IDLE_S
            due_s = min(round_s, idle_s)
            if due_s > ends_s:
                break
            self.clock.advance(max(0.0, due_s - self.clock.monotonic()))
            if round_s <= idle_s:
                self._round(due_s)
            else:
                self._analysis.settle(self.clock.now())
                self._batch_s = due_s
        self.clock.advance(max(0.0, ends_s - self.clock.monotonic()))

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is found, no alert is pending or firing, and no breaker is held."""
        return not (self._control.findings or self._control.alerts or self.breakers.held())

    def skip(self, seconds: float) -> None:
        """Let time pass in which there are no rounds: a silence longer than every window."""
        self.clock.advance(seconds)
        self._listens_s = self._batch_s = self.clock.monotonic()

    def _wake(self) -> None:
        self._woken = True

    def _round_s(self) -> float:
        """When the control thread would have its next round."""
        if self._woken:
            return max(self._listens_s, self.clock.monotonic())
        return self._listens_s + PANE_S

    def _round(self, due_s: float) -> None:
        early, self._woken = self._woken, False
        self._listens_s = due_s + EARLY_GAP_S if early else due_s
        now = self.clock.now()
        self._control.round(now, early=early)
        if self._after_round is not None:
            self._after_round(now, self._control.findings)


def _at_s(row: tuple[Sent, int]) -> float:
    return row[0].at_s


def _spans_in(payload: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(payload)
    return sum(len(of.spans) for one in request.resource_spans for of in one.scope_spans)
