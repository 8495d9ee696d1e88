"""Charge reports to charges: what a process says its users cost, as rows of ``link.CHARGES``.

A pair of a user and a call is one row for what the process itself did, and one row for each backend
that it spent time in, as spans are. A row stands for many requests, so it names no request; the
ids of the costliest are evidence.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from heatshield.charge_report import ChargeReport
from heatshield_collector.link.charges import CHARGES

__all__ = ["reported_charges"]


def reported_charges(reports: Sequence[ChargeReport]) -> pa.Table:
    """:data:`CHARGES` of reports that have not come before."""
    rows = [row for report in reports for row in _rows(report)]
    return pa.Table.from_pylist(rows, schema=CHARGES)


def _rows(report: ChargeReport) -> Iterator[dict[str, Any]]:
    for pair in report.pairs:
        yield _row(
            report,
            pair.user,
            pair.call,
            busy_us=pair.cpu_us,
            elements=pair.elements,
            calls=pair.calls,
            errors=pair.errors,
            rows=pair.rows,
            bytes=pair.bytes,
        )
    for place, backend, us, _ in report.backend_us:
        pair = report.pairs[place]
        system, _, address = backend.partition(" ")
        yield _row(
            report,
            pair.user,
            pair.call,
            busy_us=us,
            backend=system,
            operation=address or system,
            address=address or None,
        )


def _row(report: ChargeReport, user: str | None, call: str, **columns: Any) -> dict[str, Any]:
    row = {
        "trace": 0,
        "user": user or None,
        "service": report.service,
        "call": call,
        "backend": None,
        "operation": call,
        "busy_us": 0,
        "elements": 0,
        "calls": 0,
        "errors": 0,
        "rows": 0,
        "bytes": 0,
        "key_pattern": None,
        "size": None,
        "eligible": bool(user),
        "transferred": False,
        "trace_id": b"",
        "instance": report.instance,
        "address": None,
        "start_ns": report.at_ns,
        "duration_ns": 0,
    }
    return row | columns
