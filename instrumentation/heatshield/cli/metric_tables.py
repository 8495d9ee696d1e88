"""Renders metrics and their series as tables: values in, rich renderables out."""

from collections.abc import Mapping
from typing import Final, Literal

from rich.table import Table
from rich.text import Text

from heatshield.cli.answers import LatestSample, Metrics
from heatshield.cli.terminal import clock_time, seconds, text

__all__ = ["metric_table", "series_table"]

INSTANCE_CHARS: Final = 8
"""Characters of an instance's id that are shown, enough to tell a service's processes apart."""


def metric_table(answer: Metrics) -> Table:
    """Render one row per metric."""
    by_name: dict[str, list[LatestSample]] = {}
    for sample in answer["metrics"]:
        by_name.setdefault(sample["name"], []).append(sample)
    table = _table(f"metrics: {len(by_name)}", "metric", "kind", "series", "services", "about")
    for name, samples in by_name.items():
        services = sorted({sample["service"] for sample in samples})
        table.add_row(
            text(name),
            text(samples[0]["kind"]),
            text(len(samples)),
            text(", ".join(services)),
            text(samples[0]["description"], "dim"),
        )
    return table


def series_table(answer: Metrics) -> Table:
    """Render one row per series, with one exemplar's request where there is one."""
    samples = answer["metrics"]
    table = _table(
        f"{samples[0]['name']}: {samples[0]['kind']}, {samples[0]['description']}",
        *("service", "instance", "labels", "value", "at", "request"),
    )
    for sample in samples:
        exemplars = sample["exemplars"]
        table.add_row(
            text(sample["service"]),
            text(sample["instance"][:INSTANCE_CHARS]),
            text(_labels(sample["attributes"])),
            text(_value(sample)),
            text(clock_time(sample["time_ns"], "%H:%M:%S")),
            text(exemplars[0]["trace_id"] if exemplars else "", "dim"),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=text(title), box=None, title_justify="left", expand=True)
    for name in columns:
        ratio = {"labels": 3, "about": 3, "metric": 3}.get(name)
        justify: Literal["left", "right"] = "right" if name in ("series", "value") else "left"
        table.add_column(
            name,
            ratio=ratio,
            justify=justify,
            no_wrap=True,
            overflow="fold" if name == "request" else "ellipsis",
        )
    return table


def _labels(attributes: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in attributes.items())


def _value(sample: LatestSample) -> Text | str:
    """A number; of a histogram, the count and mean of its observations."""
    value, count = sample["value"], sample["count"]
    if count is None or isinstance(value, str):
        return _number(value, sample["unit"])
    if not count or value is None:
        return f"{count:,}"
    return f"{count:,}, mean {_number(value / count, sample['unit'])}"


def _number(value: float | str | None, unit: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if unit == "s":
        return seconds(value)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
