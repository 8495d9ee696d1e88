"""The PromQL of the panels, over the metrics in :mod:`heatshield.names`.

``$cost``, ``$window`` and ``$service`` are variables of the dashboard; ``$__rate_interval`` is
Grafana's: four scrapes, or the step if that is longer.
"""

from dataclasses import dataclass
from typing import Final

from heatshield import names

__all__ = ["Query"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL.
        legend: name of a series, with ``{{label}}``.
        exemplar: whether to query exemplars, too.
    """

    expr: str
    legend: str = ""
    exemplar: bool = False


RATE: Final = "[$__rate_interval]"
SERVICE: Final = 'service=~"$service"'
LOAD: Final = f'cost="$cost", window="$window", {SERVICE}'

USERS_SHOWN: Final = 10
"""Lines that stay distinguishable in one panel."""

USERS_LISTED: Final = 20
"""Rows of a table that fit without scrolling much."""

USERS_BY_LOAD: Final = Query(
    f"topk({USERS_SHOWN}, {names.USER_LOAD}{{{LOAD}}})", "{{user}}: {{call}} of {{service}}"
)
USERS_NOW: Final = Query(f"sort_desc(topk({USERS_LISTED}, {names.USER_LOAD}{{{LOAD}}}))")
CALLS_BY_LOAD: Final = Query(
    f"topk({USERS_SHOWN}, {names.CALL_LOAD}{{{LOAD}}})", "{{call}} of {{service}}"
)
FINDINGS: Final = Query(f"sort_desc({names.FINDING}{{{SERVICE}}})")
ALERTS: Final = Query(
    f"sum by (alertname, alertstate) ({names.ALERTS})", "{{alertname}} {{alertstate}}"
)
BREAKERS: Final = Query(f"sum by (state, mode) ({names.BREAKERS})", "{{state}} {{mode}}")
HELD: Final = Query(f'{names.BREAKER_HELD}{{{SERVICE}, state="open"}}')
REJECTED: Final = Query(
    f"sum by (service, call) (rate({names.BREAKER_REJECTED}{{{SERVICE}}}{RATE}))",
    "{{call}} of {{service}}",
)

BUSY: Final = Query(
    f'sum by (service) ({names.CALL_LOAD}{{cost="busy", window="$window", {SERVICE}}})',
    "{{service}} busy",
)
CAPACITY: Final = Query(f"{names.SERVICE_CAPACITY}{{{SERVICE}}}", "{{service}} capacity")

_ALL_REQUESTS: Final = f"sum by (service) (rate({names.REQUESTS}{{{SERVICE}}}{RATE}))"
_FAILED: Final = f'sum by (service) (rate({names.REQUESTS}{{{SERVICE}, outcome="error"}}{RATE}))'

REQUESTS: Final = Query(_ALL_REQUESTS, "{{service}}")
ERRORS: Final = Query(
    # A service without a failure has no error series, but its share of errors is 0.
    f"({_FAILED} or 0 * {_ALL_REQUESTS}) / {_ALL_REQUESTS}",
    "{{service}}",
)
_BUCKETS: Final = f"rate({names.REQUEST_DURATION}_bucket{{{SERVICE}}}{RATE})"
DURATION_P50: Final = Query(
    f"histogram_quantile(0.50, sum by (le, service) ({_BUCKETS}))", "{{service}} p50"
)
DURATION_P99: Final = Query(
    f"histogram_quantile(0.99, sum by (le, service) ({_BUCKETS}))", "{{service}} p99", exemplar=True
)

SPANS: Final = Query(f"sum(rate({names.SPANS_RECEIVED}{RATE}))", "spans")
LOGS: Final = Query(f"sum(rate({names.LOGS_RECEIVED}{RATE}))", "logs")
SAMPLES: Final = Query(f"sum(rate({names.SAMPLES_RECEIVED}{RATE}))", "samples of metrics")
REPORTS: Final = Query(
    f"sum by (outcome) (rate({names.CHARGE_REPORTS}{RATE}))", "charge reports {{outcome}}"
)
REFUSED: Final = Query(
    f"sum by (cause) (rate({names.PAYLOADS_REFUSED}{RATE}))", "payloads refused: {{cause}}"
)
DROPPED: Final = Query(
    f"sum by (cause) (rate({names.CHARGES_DROPPED}{RATE}))", "charges dropped: {{cause}}"
)
CUT_OFF: Final = Query(
    f"sum by (cause) (rate({names.STREAMS_CUT_OFF}{RATE}))", "streams cut off: {{cause}}"
)
COLLAPSED: Final = Query(
    f"sum(rate({names.REQUESTS_COLLAPSED}{RATE}))", "requests without a series"
)
FAILED_EVALUATIONS: Final = Query(
    f"sum(rate({names.EVALUATION_FAILURES}{RATE}))", "evaluations failed"
)
RULES_FAILING: Final = Query(f"sum({names.RULE_FAILING}) or vector(0)", "rules that fail")
POLICY_NOT_IN_FORCE: Final = Query(
    f"sum(1 - {names.POLICY_IN_FORCE}) or vector(0)", "policy files that are not in force"
)
POLICY_FAILURES: Final = Query(
    f"sum(rate({names.POLICY_FAILURES}{RATE}))", "versions of a policy file that can't be used"
)
NOT_STORED: Final = Query(
    f"sum(rate({names.JOURNAL_DROPPED}{RATE}))", "findings, alerts and audit records not stored"
)
NOT_KEPT: Final = Query(
    f"sum(rate({names.STATE_WRITE_FAILURES}{RATE}))", "writes of held breakers that failed"
)
NOT_NOTIFIED: Final = Query(
    f'sum by (outcome) (rate({names.NOTIFICATIONS}{{outcome=~"failed|dropped"}}{RATE}))',
    "notifications {{outcome}}",
)
_COMMITS: Final = f"rate({names.COMMIT_SECONDS}_bucket{RATE})"
COMMIT_P50: Final = Query(f"histogram_quantile(0.50, sum by (le) ({_COMMITS}))", "p50")
COMMIT_P99: Final = Query(f"histogram_quantile(0.99, sum by (le) ({_COMMITS}))", "p99")
QUEUE_BYTES: Final = Query(f"sum({names.COMMIT_QUEUE_BYTES})", "waiting")
STORE_BYTES: Final = Query(f"sum({names.STORE_BYTES})", "stored")
LISTENERS: Final = Query(f"sum({names.STREAM_SUBSCRIBERS})", "listeners of events")
BEHIND: Final = Query(
    f"sum({names.INSTANCES_BEHIND})", "instances that do not enforce the latest breaker state"
)
NOT_ENFORCING: Final = Query(
    f"sum({names.INSTANCES_NOT_ENFORCING})", "instances whose kill switch is thrown"
)

SERVICES_VARIABLE: Final = f"label_values({names.REQUESTS}, service)"
"""The values of the variable ``$service``, as a query of Grafana's Prometheus data source."""
