"""Renders the audit, alerts, findings and requests as tables: values in, rich renderables out."""

from typing import Final

from rich.text import Text

from heatshield.cli.answers import Alert, Alerts, Audit, AuditRecord, Findings, Requests
from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.tables import CLASS_STYLES
from heatshield.cli.terminal import clock_time, number, seconds, text

__all__ = ["alert_table", "audit_table", "finding_table", "request_table"]

MOMENT: Final = "%Y-%m-%d %H:%M:%S"
"""In UTC: of what may be days old."""

AUDIT_COLUMNS: Final = (
    Column("at (UTC)"),
    Column("change"),
    Column("breaker", drops=2),
    Column("user"),
    Column("service", drops=3),
    Column("call"),
    Column("by", drops=4),
    Column("reason", drops=1, beneath=True),
)

ALERT_COLUMNS: Final = (
    Column("state"),
    Column("alert"),
    Column("class"),
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("value", drops=3, justify="right"),
    Column("since (UTC)", drops=2),
    Column("summary", drops=1, beneath=True),
)

FINDING_COLUMNS: Final = (
    Column("at (UTC)", drops=5),
    Column("class"),
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("load", drops=3, justify="right"),
    Column("request", drops=2),
    Column("reason", drops=1, beneath=True),
)

REQUEST_COLUMNS: Final = (
    Column("request"),
    Column("began (UTC)", drops=5),
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("took", drops=6, justify="right"),
    Column("busy", drops=3, justify="right"),
    Column("spans", drops=1, justify="right"),
    Column("errors", drops=2, justify="right"),
)

STATE_STYLES: Final = {"firing": "bold red", "pending": "yellow"}


def audit_table(answer: Audit) -> FittingTable:
    """Render one row per change of a breaker, and per refusal."""
    return FittingTable(AUDIT_COLUMNS, [_audit_row(record) for record in answer["changes"]])


def _audit_row(record: AuditRecord) -> tuple[Text, ...]:
    entry = record["entry"]
    return (
        text(clock_time(record["at_ns"], MOMENT)),
        text(record["change"], "bold"),
        text(record["entry_id"], "yellow"),
        text(entry.get("user")),
        text(entry.get("service")),
        text(entry.get("call")),
        text(record["issuer"]),
        text(record["reason"]),
    )


def alert_table(answer: Alerts) -> FittingTable:
    """Render one row per alert."""
    return FittingTable(ALERT_COLUMNS, [_alert_row(alert) for alert in answer["alerts"]])


def _alert_row(alert: Alert) -> tuple[Text, ...]:
    labels, value = alert["labels"], alert["value"]
    since_ns = alert["resolved_at_ns"] or alert["fired_at_ns"] or alert["active_at_ns"]
    return (
        text(alert["state"], STATE_STYLES.get(alert["state"], "")),
        text(alert["name"], "bold"),
        text(labels.get("class"), CLASS_STYLES.get(labels.get("class", ""), "")),
        text(labels.get("user")),
        text(labels.get("service")),
        text(labels.get("call")),
        text(number(value) if isinstance(value, int | float) else value),
        text(clock_time(since_ns, MOMENT) if since_ns else None),
        text(alert["annotations"].get("summary")),
    )


def finding_table(answer: Findings) -> FittingTable:
    """Render one row per finding, with the costliest request as evidence."""
    rows = [
        (
            text(clock_time(found["at_ns"], MOMENT)),
            text(found["class"], CLASS_STYLES.get(found["class"], "")),
            text(found["user"]),
            text(found["service"]),
            text(found["call"]),
            text(f"{number(found['load'])} {found['cost']} over {found['window']}"),
            text(found["trace_ids"][0] if found["trace_ids"] else None),
            text(found["reason"]),
        )
        for found in answer["findings"]
    ]
    return FittingTable(FINDING_COLUMNS, rows)


def request_table(answer: Requests) -> FittingTable:
    """Render one row per request."""
    rows = [
        (
            text(found["trace_id"]),
            text(clock_time(found["start_ns"], MOMENT)),
            text(found["user"] or "unknown"),
            text(found["service"]),
            text(found["call"]),
            text(seconds(found["duration_ms"] / 1e3)),
            text(seconds(found["busy_s"])),
            text(f"{found['spans']:,}"),
            text(f"{found['errors']:,}" if found["errors"] else "", "red"),
        )
        for found in answer["requests"]
    ]
    return FittingTable(REQUEST_COLUMNS, rows)
