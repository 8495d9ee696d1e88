"""Builds panels that share one style."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from types import MappingProxyType
from typing import Final

from grafana_foundation_sdk.builders import common, prometheus, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.common import (
    GraphGradientMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from heatshield_dashboards.queries import Query

__all__ = [
    "DATASOURCE_NAME",
    "DATASOURCE_UID",
    "SOURCE",
    "Panel",
    "events",
    "lines",
    "rows",
    "stacked",
]

Panel = Builder[dashboard.Panel]
"""A builder of a panel."""

DATASOURCE_NAME: Final = "Heatshield"
DATASOURCE_UID: Final = "heatshield-prometheus"
"""The data source that is provisioned."""

EVENTS_STEP: Final = "1s"
"""A breaker may be held for a few seconds only."""

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The data source that the dashboard's first variable names."""

HEIGHT: Final = 8
"""Height of a panel in grid cells; three rows of panels fit a screen."""

FILL_PERCENT: Final = 8
STACKED_FILL_PERCENT: Final = 40


def lines(
    title: str, description: str, queries: Sequence[Query], *, unit: str, width: int
) -> timeseries.Panel:
    """Build a graph of values over time, one line per series; ``width`` in grid cells, of 24."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(FILL_PERCENT)
        .gradient_mode(GraphGradientMode.OPACITY)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    for position, query in enumerate(queries):
        panel.with_target(_target(ascii_uppercase[position], query).range())
    return panel


def stacked(
    title: str, description: str, queries: Sequence[Query], *, unit: str, width: int
) -> timeseries.Panel:
    """Build a stacked graph of the parts of a whole; arguments as for :func:`lines`."""
    return (
        lines(title, description, queries, unit=unit, width=width)
        .fill_opacity(STACKED_FILL_PERCENT)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    )


def rows(
    title: str, description: str, query: Query, *, columns: Sequence[str], unit: str, width: int
) -> table.Panel:
    """Build a table of current values, a row per series: labels in ``columns``, then the value."""
    order = {name: position for position, name in enumerate((*columns, "Value"))}
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .unit(unit)
        .with_target(_target("A", query).instant().format(PromQueryFormat.TABLE))
        .with_transformation(_columns(order))
    )


def _target(ref_id: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(ref_id)
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .exemplar(query.exemplar)
    )


def _columns(order: dict[str, int]) -> dashboard.DataTransformerConfig:
    """Keep these labels, in this order, and hide those of the scrape."""
    return dashboard.DataTransformerConfig(
        id_val="organize",
        options={"includeByName": dict.fromkeys(order, True), "indexByName": order},
    )


class _Events(dashboard.AnnotationQuery):
    """A query of annotations, with what Grafana's Prometheus source reads and the SDK lacks."""

    shown: Mapping[str, str] = MappingProxyType({})

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), **self.shown}


class _EventsBuilder(Builder[dashboard.AnnotationQuery]):
    def __init__(self, built: _Events) -> None:
        self._built = built

    def build(self) -> dashboard.AnnotationQuery:
        return self._built


def events(name: str, query: Query, title: str, text: str) -> Builder[dashboard.AnnotationQuery]:
    """Marks on all panels the time in which the series of a query are there.

    Args:
        name: of the switch that shows and hides them.
        query: its series are 1 while it lasts.
        title: with ``{{label}}``.
        text: below the title.
    """
    built = _Events(name=name, datasource=SOURCE, enable=True, icon_color="red", expr=query.expr)
    built.shown = {"titleFormat": title, "textFormat": text, "step": EVENTS_STEP}
    return _EventsBuilder(built)
