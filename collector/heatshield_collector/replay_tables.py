"""Renders what a recording would have led to as tables: values in, rich renderables out."""

from typing import Final

from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.tables import CLASS_STYLES, NO_USER
from heatshield.cli.terminal import clock_time, number, text
from heatshield_collector.backtest import Outcome

__all__ = ["finding_table", "trip_table"]

MOMENT: Final = "%Y-%m-%d %H:%M:%S"

TRIP_COLUMNS: Final = (
    Column("at (UTC)"),
    Column("user"),
    Column("service", drops=3),
    Column("call"),
    Column("action"),
    Column("why", drops=1, beneath=True),
)

FINDING_COLUMNS: Final = (
    Column("from (UTC)"),
    Column("seconds", drops=3, justify="right"),
    Column("class"),
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("load", drops=2, justify="right"),
    Column("why", drops=1, beneath=True),
)


def trip_table(outcome: Outcome) -> FittingTable:
    """One row for each time that a user's calls would have been slowed or refused."""
    rows = [
        (
            text(_moment(outcome, one.at_s)),
            text(one.user or "all users", "bold"),
            text(one.service),
            text(one.call or "all calls"),
            text(one.action, "bold red" if one.action == "reject" else "yellow"),
            text(one.reason),
        )
        for one in outcome.trips
    ]
    return FittingTable(TRIP_COLUMNS, rows, title=text("would have been cut"))


def finding_table(outcome: Outcome) -> FittingTable:
    """One row a finding."""
    rows = []
    for one in outcome.findings:
        style = CLASS_STYLES.get(one.klass, "")
        closed_s = outcome.virtual_seconds if one.closed_s is None else one.closed_s
        lasts = f"{max(0.0, closed_s - one.opened_s):,.1f}" + "+" * (one.closed_s is None)
        rows.append(
            (
                text(_moment(outcome, one.opened_s)),
                text(lasts),
                text(one.klass, style),
                text(NO_USER, "dim") if one.user is None else text(one.user, style),
                text(one.service),
                text(one.call),
                text(number(float(one.figures.get("load", 0.0)))),
                text(one.reason),
            )
        )
    return FittingTable(FINDING_COLUMNS, rows, title=text("would have been found"))


def _moment(outcome: Outcome, at_s: float) -> str:
    return clock_time(outcome.began_ns + round(at_s * 1e9), MOMENT)
