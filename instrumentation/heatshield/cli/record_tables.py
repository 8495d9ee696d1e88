"""Renders the audit, alerts, findings and requests as tables: values in, rich renderables out."""

from typing import Final

from rich.text import Text

from heatshield.cli.answers import (
    Alert,
    Alerts,
    Audit,
    AuditRecord,
    Finding,
    Findings,
    Requests,
    Victims,
)
from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.tables import CLASS_STYLES, NO_USER, span_text
from heatshield.cli.terminal import clock_time, number, seconds, text

__all__ = ["alert_table", "audit_table", "finding_view", "harm_text", "request_table"]

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
    Column("at (UTC)", drops=7),
    Column("class"),
    Column("lasts", drops=6),
    Column("user"),
    Column("service", drops=5),
    Column("call"),
    Column("load", drops=4, justify="right"),
    Column("request", drops=3),
    Column("harmed", drops=2, beneath=True),
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
        text(alert["annotations"].get("why") or alert["annotations"].get("summary")),
    )


def finding_view(answer: Findings) -> FittingTable | Text:
    """Render one row per finding, with its worst request as evidence; or that there is none."""
    if not answer["findings"]:
        return Text("no detector has found anything of the kind yet")
    return FittingTable(FINDING_COLUMNS, [_finding_row(found) for found in answer["findings"]])


def _finding_row(found: Finding) -> tuple[Text, ...]:
    style = CLASS_STYLES.get(found["class"], "")
    acts = found["action"] != "none"
    return (
        text(clock_time(found["opened_ns"], MOMENT)),
        text(found["class"] + (f": {found['action']}" if acts else ""), style),
        _lasts(found),
        text(NO_USER, "dim") if found["user"] is None else text(found["user"], style),
        text(found["service"]),
        text(found["call"]),
        text(f"{number(found['load'])} {found['cost']} over {found['window']}"),
        text(found["trace_ids"][0] if found["trace_ids"] else None),
        text(harm_text(found["victims"])),
        text(found["reason"]),
    )


def _lasts(found: Finding) -> Text:
    """How long a finding was seen for, so far."""
    lasted = span_text((found["updated_ns"] - found["opened_ns"]) / 1e9)
    return text(f"open, {lasted}", "bold") if found["open"] else text(lasted)


def harm_text(victims: Victims | None) -> str:
    """Who suffers, and how: ``128 of 312 requests, 41 users; p95 410.0 ms, usually 12.0 ms``."""
    if victims is None or not victims["harmed"]:
        return ""
    users = f", {victims['users']:,} users" if victims["users"] else ""
    p95, usual = (seconds(victims[name] / 1e3) for name in ("p95_ms", "usual_p95_ms"))
    return (
        f"{victims['harmed']:,} of {victims['requests']:,} requests{users}; "
        f"p95 {p95}, usually {usual}"
    )


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
