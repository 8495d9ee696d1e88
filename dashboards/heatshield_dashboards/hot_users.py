"""Builds the dashboard "Hot users": users by load, breakers, services and the collector."""

from collections.abc import Iterator
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from heatshield_dashboards import queries
from heatshield_dashboards.panels import (
    DATASOURCE_NAME,
    DATASOURCE_UID,
    SOURCE,
    Panel,
    events,
    lines,
    rows,
    stacked,
)

__all__ = ["UID", "hot_users"]

UID: Final = "heatshield-hot-users"
"""Part of the dashboard's address; a push replaces the dashboard that has this uid."""

COSTS: Final = ("busy", "calls", "elements", "cpu", "backend", "wait")
WINDOWS: Final = ("1s", "10s", "1m", "5m")
DEFAULT_WINDOW: Final = "10s"
"""Long enough for steady lines, short enough to show a user turn hot."""

EVERY_SERVICE: Final = ".*"


def hot_users() -> dashboard.Dashboard:
    """Build the dashboard."""
    built = (
        builders.Dashboard("Hot users")
        .uid(UID)
        .description("Users by load, the breakers around them, and the effect on all other users.")
        .tags(["heatshield"])
        .time("now-15m", "now")
        .refresh("5s")
        .timepicker(builders.TimePicker().refresh_intervals(["1s", "5s", "10s", "30s", "1m", "5m"]))
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in _variables():
        built.with_variable(variable)
    built.annotation(
        events(
            "Breakers open",
            queries.HELD,
            title="breaker on {{user}} ({{mode}})",
            text="{{call}} of {{service}}",
        )
    )
    for title, panels in (
        ("Users", _users()),
        ("Alerts and breakers", _actions()),
        ("Services", _services()),
        ("The collector", _collector()),
    ):
        built.with_row(builders.Row(title))
        for panel in panels:
            built.with_panel(panel)
    return _numbered(built.build())


def _variables() -> Iterator[Builder[dashboard.VariableModel]]:
    yield (
        builders.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        # Else Grafana takes its default source, which may be any other Prometheus.
        .current(VariableOption(selected=True, text=DATASOURCE_NAME, value=DATASOURCE_UID))
    )
    yield _choice("cost", "Cost", COSTS, COSTS[0])
    yield _choice("window", "Window", WINDOWS, DEFAULT_WINDOW)
    yield (
        builders.QueryVariable("service")
        .label("Service")
        .query(queries.SERVICES_VARIABLE)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(EVERY_SERVICE)
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _choice(name: str, label: str, values: tuple[str, ...], chosen: str) -> builders.CustomVariable:
    return (
        builders.CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .options(
            [VariableOption(selected=value == chosen, text=value, value=value) for value in values]
        )
        .current(VariableOption(selected=True, text=chosen, value=chosen))
    )


def _users() -> Iterator[Panel]:
    yield lines(
        "Users by load",
        "Cost per second of each user on each call, lower bound. Busy load counts workers: 2.0 "
        "keeps two of them busy.",
        [queries.USERS_BY_LOAD],
        unit="short",
        width=14,
    )
    yield rows(
        "Users now",
        "Current cost per second of each user on each call, lower bound.",
        queries.USERS_NOW,
        columns=("user", "service", "call"),
        unit="short",
        width=10,
    )
    yield rows(
        "Findings",
        "Current findings of the detectors, and the load of each. A harmful user may be cut; the "
        "others are only reported.",
        queries.FINDINGS,
        columns=("class", "action", "user", "service", "call", "cost", "window"),
        unit="short",
        width=14,
    )
    yield lines(
        "Calls by load",
        "Cost per second of each call, all users together.",
        [queries.CALLS_BY_LOAD],
        unit="short",
        width=10,
    )


def _actions() -> Iterator[Panel]:
    yield stacked("Alerts", "Pending and firing.", [queries.ALERTS], unit="short", width=8)
    yield stacked(
        "Breakers", "Entries held, by state and mode.", [queries.BREAKERS], unit="short", width=8
    )
    yield lines(
        "Rejected calls per second",
        "Calls that services refused because of an open breaker. A rejection is not a failure.",
        [queries.REJECTED],
        unit="reqps",
        width=8,
    )


def _services() -> Iterator[Panel]:
    yield lines("Requests per second", "By service.", [queries.REQUESTS], unit="reqps", width=6)
    yield lines(
        "Errors",
        "Share of requests that failed, without rejected calls.",
        [queries.ERRORS],
        unit="percentunit",
        width=6,
    )
    yield lines(
        "Duration",
        "Median and 99th percentile. Each point is a request; click it to open the request.",
        [queries.DURATION_P50, queries.DURATION_P99],
        unit="s",
        width=6,
    )
    yield lines(
        "Busy against capacity",
        "Workers kept busy, beside the workers that live instances report.",
        [queries.BUSY, queries.CAPACITY],
        unit="short",
        width=6,
    )


def _collector() -> Iterator[Panel]:
    yield lines(
        "Telemetry received",
        "Records per second that are acknowledged, and so on disk; charge reports, which are not "
        "stored.",
        [queries.SPANS, queries.LOGS, queries.SAMPLES, queries.REPORTS],
        unit="cps",
        width=8,
    )
    yield lines(
        "Telemetry refused and dropped",
        "Payloads answered with an error, dropped charges, event streams cut off because their "
        "listener was too slow, requests without a series because there are too many calls, rules "
        "that fail, records not stored, breakers not kept for a restart, notifications not sent. "
        "All should be zero.",
        [
            queries.REFUSED,
            queries.DROPPED,
            queries.CUT_OFF,
            queries.COLLAPSED,
            queries.FAILED_EVALUATIONS,
            queries.RULES_FAILING,
            queries.POLICY_NOT_IN_FORCE,
            queries.POLICY_FAILURES,
            queries.NOT_STORED,
            queries.NOT_KEPT,
            queries.NOT_NOTIFIED,
        ],
        unit="cps",
        width=8,
    )
    yield lines(
        "Time to disk",
        "From the moment a payload is queued until it is acknowledged.",
        [queries.COMMIT_P50, queries.COMMIT_P99],
        unit="s",
        width=8,
    )
    yield lines(
        "Queue",
        "Bytes of payloads that wait for the disk. When the queue is full, senders get 503 with "
        "Retry-After.",
        [queries.QUEUE_BYTES],
        unit="bytes",
        width=8,
    )
    yield lines("Store", "Bytes on disk.", [queries.STORE_BYTES], unit="bytes", width=8)
    yield lines(
        "Listeners",
        "Open event streams, and live instances that have not acknowledged the latest breaker "
        "state, including those that only send telemetry.",
        [queries.LISTENERS, queries.BEHIND, queries.NOT_ENFORCING],
        unit="short",
        width=8,
    )


def _numbered(built: dashboard.Dashboard) -> dashboard.Dashboard:
    """Number the panels from 1: Grafana links to panels by id, so ids must not change."""
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return built
