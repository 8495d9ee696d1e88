"""A collector's API that answers as it is told, and commands run against it."""

import json
import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

from typer.testing import CliRunner

from heatshield.cli.app import app

TRACE = "ab" * 16
ENTRY = {
    "id": "b-8",
    "user": "u-1",
    "service": "shop",
    "call": "POST /p",
    "mode": "reject",
    "lease_ms": 30_000,
    "issuer": "human:root",
    "reason": "",
    "evidence": {},
    "rate_per_s": 0.0,
    "tenant": "default",
    "seq": 4,
}
OTHER = ENTRY | {"id": "b-9", "user": "u-2"}
HOT = {
    "cost": "busy",
    "window": "10s",
    "at_ns": 1_700_000_000 * 10**9,
    "capacity": 4.0,
    "users": [
        {
            "user": "u-1",
            "service": "shop",
            "call": "POST /p",
            "load": 1.5,
            "lower": 1.5,
            "upper": 1.5,
            "share": 0.9,
            "baseline": 0.01,
            "class": "hot",
            "breaker": "b-8",
            "trace_id": TRACE,
        }
    ],
}
LINKED = {
    "trace_id": TRACE,
    "user": "u-1",
    "user_from": "root",
    "start_ns": 1_700_000_000 * 10**9,
    "duration_ms": 10.0,
    "services": ["shop"],
    "cost": {"busy_s": 0.01, "calls": 1, "errors": 0, "elements": 20_000, "rows": 0, "bytes": 0},
    "spans": [
        {
            "span_id": "01" * 8,
            "parent_span_id": None,
            "orphan": False,
            "depth": 0,
            "service": "shop",
            "instance": "i",
            "name": "POST /p",
            "kind": "server",
            "start_ns": 1_700_000_000 * 10**9,
            "duration_ns": 10_000_000,
            "self_ns": 10_000_000,
            "status": "unset",
            "status_message": "",
            "user": "u-1",
            "call": "POST /p",
            "rejected": None,
            "cost": {"elements": 20_000},
            "attributes": {},
            "events": [],
        }
    ],
    "logs": [],
}


AUDIT = {
    "changes": [
        {
            "at_ns": 1_700_000_000 * 10**9, "change": "opened", "entry_id": "b-8",
            "issuer": "rule:HarmfulUser", "reason": "burns 2.1 of 4 workers", "version": "1.4",
            "entry": ENTRY,
        },
        {
            "at_ns": 1_700_000_000 * 10**9, "change": "mode", "entry_id": "",
            "issuer": "human:ann", "reason": "shadow \u2192 protect", "version": "1.3", "entry": {},
        },
    ]
}  # fmt: skip
ALERTS = {
    "alerts": [
        {
            "name": "HarmfulUser", "state": "firing", "value": 2.1,
            "labels": {"user": "u-1", "service": "shop", "call": "POST /p", "class": "hot"},
            "annotations": {"summary": "u-1 burns the shop"}, "active_at_ns": 10**9,
            "fired_at_ns": 1_700_000_000 * 10**9, "resolved_at_ns": None,
        }
    ]
}  # fmt: skip
FINDINGS = {
    "findings": [
        {
            "id": "f-1", "class": "harmful", "action": "pace", "user": "u-1", "service": "shop",
            "call": "POST /p", "resource": "Redis cart", "cost": "busy", "window": "1s",
            "load": 2.123456, "baseline": 0.05, "reason": "40 times its usual load", "open": True,
            "at_ns": 1_700_000_012 * 10**9, "opened_ns": 1_700_000_000 * 10**9,
            "updated_ns": 1_700_000_012 * 10**9, "closed_ns": None, "trace_ids": [TRACE],
            "figures": {"share": 0.9}, "thresholds": {"share": 0.3}, "worst": None,
            "victims": {
                "requests": 312, "harmed": 128, "users": 41, "worst_users": ["u-2"],
                "calls": ["shop GET /p"], "callers": [], "usual_p95_ms": 12.0, "p95_ms": 410.0,
                "usual_errors": 0.0, "errors": 0.0,
            },
        }
    ]
}  # fmt: skip
REQUESTS = {
    "requests": [
        {
            "trace_id": TRACE, "user": None, "service": "shop", "call": "POST /p",
            "start_ns": 1_700_000_000 * 10**9, "duration_ms": 1_240.0, "spans": 12, "errors": 1,
            "busy_s": 0.31, "elements": 20_000, "services": ["shop"],
        }
    ]
}  # fmt: skip


class Api:
    """A collector's API from a table of canned answers; remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.answers = {
            ("GET", "/healthz"): (200, {}),
            ("GET", "/readyz"): (200, {}),
            ("GET", "/api/users/hot"): (200, HOT),
            ("GET", f"/api/requests/{TRACE}"): (200, LINKED),
            ("GET", "/api/requests"): (200, REQUESTS),
            ("GET", "/api/audit"): (200, AUDIT),
            ("GET", "/api/alerts"): (200, ALERTS),
            ("GET", "/api/findings"): (200, FINDINGS),
            ("GET", "/v1/breakers"): (
                200,
                {"epoch": 1, "version": 4, "mode": "protect", "entries": [ENTRY, OTHER]},
            ),
            ("GET", "/api/known"): (
                200,
                {what: {"known": True, "near": None} for what in ("user", "service", "call")},
            ),
            ("POST", "/v1/breakers"): (201, ENTRY),
            ("DELETE", "/v1/breakers/b-8"): (200, {"cleared": ENTRY}),
            ("GET", "/api/mode"): (200, {"mode": "protect"}),
            ("PUT", "/api/mode"): (200, {"mode": "shadow"}),
        }

    def answer(self, method, target, headers, body):
        parts = urlsplit(target)
        given = json.loads(body) if body else None
        self.asked.append((method, parts.path, parse_qs(parts.query), given, headers))
        return self.answers.get((method, parts.path), (404, {"error": f"no {parts.path} here"}))

    def body_of(self, method):
        return next(given for asked, _, _, given, _ in self.asked if asked == method)


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from heatshield.cli import main; main()", *arguments],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip
