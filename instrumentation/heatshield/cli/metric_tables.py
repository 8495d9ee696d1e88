"""Renders metrics and their series as tables: values in, rich renderables out."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from rich.text import Text

from heatshield.cli.answers import LatestSample, Metrics
from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.terminal import clock_time, number, seconds, text

__all__ = ["metric_table", "series_table"]

METRIC_COLUMNS: Final = (
    Column("metric"),
    Column("kind", drops=2),
    Column("series", drops=3, justify="right"),
    Column("services", drops=4),
    Column("about", drops=1),
)

SERIES_COLUMNS: Final = (
    Column("service", drops=4),
    Column("instance", drops=3),
    Column("labels"),
    Column("value", justify="right"),
    Column("at", drops=2),
    Column("request", drops=1),
)

LEAST: Final = 0.0001
"""Values of metrics that are smaller are shown as such: people read no ``3.33e-05``."""

INSTANCE_CHARS: Final = 8
"""Characters of an instance's id that are shown, enough to tell a service's processes apart."""


def metric_table(answer: Metrics) -> FittingTable:
    """Render one row per metric."""
    by_name: dict[str, list[LatestSample]] = {}
    for sample in answer["metrics"]:
        by_name.setdefault(sample["name"], []).append(sample)
    rows = []
    for name, samples in by_name.items():
        services = sorted({sample["service"] for sample in samples})
        rows.append(
            (
                text(name),
                text(samples[0]["kind"]),
                text(len(samples)),
                text(", ".join(services)),
                text(samples[0]["description"], "dim"),
            )
        )
    return FittingTable(METRIC_COLUMNS, rows, title=text(f"metrics: {len(by_name)}"))


def series_table(answer: Metrics) -> FittingTable:
    """Render one row per series, with one exemplar's request where there is one.

    Labels that all series have alike stand once, beneath the table.
    """
    samples = answer["metrics"]
    common = _common([sample["attributes"] for sample in samples])
    rows = [
        (
            text(sample["service"]),
            text(sample["instance"][:INSTANCE_CHARS]),
            text(_labels(sample["attributes"], leave_out=common)),
            text(_value(sample)),
            text(clock_time(sample["time_ns"], "%H:%M:%S")),
            text(sample["exemplars"][0]["trace_id"] if sample["exemplars"] else "", "dim"),
        )
        for sample in samples
    ]
    return FittingTable(
        SERIES_COLUMNS,
        rows,
        title=text(f"{samples[0]['name']}: {samples[0]['kind']}, {samples[0]['description']}"),
        caption=text(f"all have {_labels(common)}" if common else None),
    )


def _common(attributes: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Labels that several series have alike; none of one series alone."""
    if len(attributes) == 1:
        return {}
    first, *rest = attributes
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in rest)
    }


def _labels(attributes: Mapping[str, object], leave_out: Collection[str] = ()) -> str:
    return ", ".join(
        f"{name}={value}" for name, value in attributes.items() if name not in leave_out
    )


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
    return number(value, LEAST)
