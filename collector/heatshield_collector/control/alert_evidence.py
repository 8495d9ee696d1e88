"""What detection knows of an alert's user: why a breaker may open, and what people are told."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from heatshield.clock import Instant
from heatshield_alerts.notify import HARM, WHY
from heatshield_alerts.rules import Alert, AlertState
from heatshield_alerts.series import Labels
from heatshield_alerts.trip_policy import Evidence, key_of
from heatshield_collector.control.finding_book import FindingBook, FindingRecord, gravity
from heatshield_collector.detect import Detection, Finding, Victims

__all__ = ["AlertEvidence", "harm_text"]

RESOURCE: Final = "resource"
"""Label of an alert that is about one."""

NAMED: Final = 3
"""Victims, and calls of theirs, that an entry names: every client of a service is told of it."""

SECOND_MS: Final = 1_000


class AlertEvidence:
    """Looks up what is known. One thread notes, every thread may ask.

    Args:
        detection: loads and requests of users.
        book: the findings that are open.
    """

    def __init__(self, detection: Detection, book: FindingBook) -> None:
        self._detection = detection
        self._book = book
        self._records: Mapping[Labels, FindingRecord] = {}

    def note(self, alerts: Iterable[Alert]) -> None:
        """Remember the finding of each alert, as long as there is the alert.

        Args:
            alerts: all that are not inactive.
        """
        records: dict[Labels, FindingRecord] = {}
        for alert in alerts:
            record, known = self._open(alert), self._records.get(alert.labels)
            if known is not None and alert.state is not AlertState.PENDING:
                # What the user still does once the alert's finding is closed is not its reason.
                is_same = record is not None and record.id == known.id
                is_graver = record is not None and gravity(record.finding) > gravity(known.finding)
                is_over = alert.state is AlertState.RESOLVED
                record = record if is_same or (is_graver and not is_over) else known
            if record is not None:
                records[alert.labels] = record
        self._records = records

    def of(
        self, alert: Alert, now: Instant, baseline_age_s: float, cold_start_s: float
    ) -> Evidence:
        """What a decision about an alert goes by."""
        key = key_of(alert)
        known = self._detection.describe(key, now.monotonic_s)
        record = self._records.get(alert.labels)
        loads = self._detection.loads
        return Evidence(
            baseline_age_s=baseline_age_s,
            cold_start_s=cold_start_s,
            threshold=self._trips_at(key.service, record),
            cost_per_call=known.cost_per_call,
            budget=known.fair_share,
            traffic=known.traffic,
            load=max(loads.load_of(key, window, now.monotonic_s).load for window in ("1s", "10s")),
            trace_ids=tuple(known.trace_ids),
            figures={"baseline": known.baseline, **_figures(record)},
            reason="" if record is None else record.finding.reason,
        )

    def _trips_at(self, service: str, record: FindingRecord | None) -> float:
        """The load that counts as high demand once it is cut.

        A user may harm others with less than what is hot on the whole service: where the calls
        are short of a small backend, and the service has many workers. Demand must then not count
        as low because the service would bear it.
        """
        floor = self._detection.floor_of(service)
        if record is None or record.finding.klass != "harmful" or record.finding.load <= 0:
            return floor
        return min(floor, record.finding.load)

    def explained(self, alert: Alert) -> Alert:
        """The alert, with annotations that say why, and who suffers; a rule's own stand."""
        record = self._records.get(alert.labels)
        if record is None:
            return alert
        said = {WHY: record.finding.reason, HARM: harm_text(record.finding.victims)}
        said = {name: text for name, text in said.items() if text}
        return replace(alert, annotations={**said, **alert.annotations})

    def _open(self, alert: Alert) -> FindingRecord | None:
        key = key_of(alert)
        resource = alert.labels.get(RESOURCE, "")
        return self._book.about(key, resource) if key.service else None


def _figures(record: FindingRecord | None) -> dict[str, Any]:
    if record is None:
        return {}
    finding: Finding = record.finding
    said: dict[str, Any] = {"finding": record.id, "class": finding.klass}
    if finding.resource:
        said["resource"] = finding.resource
    if finding.victims is not None:
        victims = asdict(finding.victims)
        for name in ("worst_users", "calls", "callers"):
            victims[name] = list(victims[name][:NAMED])
        said["victims"] = victims
    return said


def harm_text(victims: Victims | None) -> str:
    """Who suffers, and how, in one sentence; empty: nobody does."""
    if victims is None or not victims.harmed:
        return ""
    users = f" of {victims.users:,} other users" if victims.users else " of others"
    text = (
        f"{victims.harmed:,} of {victims.requests:,} requests{users} are slower than usual: "
        f"95th percentile {_ms(victims.p95_ms)}, usually {_ms(victims.usual_p95_ms)}"
    )
    if victims.errors > victims.usual_errors:
        text += f"; {victims.errors:.1%} fail, usually {victims.usual_errors:.1%}"
    calls = ", ".join(victims.calls[:NAMED])
    return f"{text}; most of all {calls}" if calls else text


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.3g} ms" if milliseconds < SECOND_MS else f"{milliseconds:,.0f} ms"
