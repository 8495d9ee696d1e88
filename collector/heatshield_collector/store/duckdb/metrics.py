"""Metrics in the embedded store: the newest samples, series over a range of time, labels."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from heatshield_alerts.matchers import MatchKind
from heatshield_collector.model import texts_of
from heatshield_collector.store.protocol import (
    INSTANCE_LABEL,
    NAME_LABEL,
    SERVICE_LABEL,
    Row,
    SampleQuery,
    SeriesQuery,
)

__all__ = ["label_names", "label_values", "labels_of", "latest_samples", "series"]

EXEMPLARS_READ: Final = 1_000
"""Samples with exemplars that one query reads, the newest."""

_NEWEST: Final = """
    SELECT DISTINCT ON (series_id) series_id, time_ns, start_ns, value, "count", bucket_counts
    FROM samples SEMI JOIN (
        SELECT series_id, max(time_ns) AS time_ns FROM samples
        WHERE received_ns >= $since GROUP BY series_id
    ) USING (series_id, time_ns)
    WHERE received_ns >= $since
    ORDER BY series_id, received_ns, samples.rowid
"""
"""Of a sample that came twice, the first delivery since then."""

_EXEMPLARS: Final = """
    SELECT series_id, exemplars FROM samples
    WHERE received_ns >= $since AND exemplars IS NOT NULL
    AND series_id IN (SELECT unnest($series))
    ORDER BY time_ns DESC, series_id, received_ns, rowid LIMIT $limit
"""

Ask = Callable[[str, dict[str, Any]], list[Row]]
"""Runs a statement with its values."""


def latest_samples(ask: Ask, query: SampleQuery) -> Sequence[Row]:
    """What :meth:`heatshield_collector.store.protocol.TelemetryStore.latest_samples` says."""
    wanted = {"name": query.name, "service": query.service}
    wanted = {column: value for column, value in wanted.items() if value is not None}
    where = "".join(f" AND series.{column} = ${column}" for column in wanted)
    rows = ask(
        f"SELECT * FROM series JOIN ({_NEWEST}) USING (series_id) WHERE true{where} "  # noqa: S608 - composed of this file's own texts, every value is bound
        "ORDER BY name, service, attribute_values, instance, series_id LIMIT $limit",
        {"since": query.since_ns, "limit": query.limit, **wanted},
    )
    exemplars = _exemplars(ask, [row["series_id"] for row in rows], query.since_ns)
    return [{**row, "exemplars": exemplars.get(row["series_id"], [])} for row in rows]


def _exemplars(ask: Ask, series: list[int], since_ns: int) -> dict[int, list[dict[str, Any]]]:
    """By series, newest first."""
    found = ask(_EXEMPLARS, {"since": since_ns, "series": series, "limit": EXEMPLARS_READ})
    by_series: dict[int, list[dict[str, Any]]] = {}
    for row in found:
        by_series.setdefault(row["series_id"], []).extend(json.loads(row["exemplars"]))
    for some in by_series.values():
        some.sort(key=lambda one: -int(one["time_ns"]))
    return by_series


_IN_RANGE: Final = """
    SELECT * FROM series
    WHERE series_id IN (SELECT series_id FROM samples WHERE time_ns BETWEEN $since AND $until)
"""

_SAMPLES: Final = """
    SELECT DISTINCT ON (series_id, time_ns) * FROM samples
    WHERE time_ns BETWEEN $since AND $until AND series_id IN (SELECT unnest($series))
    ORDER BY series_id, time_ns, received_ns, rowid
"""
"""Of a sample that came twice, the first delivery."""


def labels_of(row: Row) -> dict[str, str]:
    """The labels of a series: its attributes as texts, its name, service and instance.

    An attribute without a text is no label: to matchers an empty label and an absent one are alike.
    """
    texts = texts_of(row["attribute_keys"], row["attribute_values"])
    return {
        **{name: text for name, text in texts.items() if text},
        NAME_LABEL: row["name"],
        SERVICE_LABEL: row["service"],
        INSTANCE_LABEL: row["instance"],
    }


def series(ask: Ask, query: SeriesQuery) -> Sequence[Row]:
    """What :meth:`heatshield_collector.store.protocol.TelemetryStore.series` says."""
    times = {"since": query.since_ns, "until": query.until_ns}
    exact = {
        column: one.value
        for one in query.matchers
        for label, column in _COLUMNS.items()
        if one.name == label and one.kind is MatchKind.EQUAL
    }
    where = "".join(f" AND {column} = ${column}" for column in exact)
    rows = ask(
        f"{_IN_RANGE}{where} ORDER BY name, service, attribute_values, instance, series_id",
        {**times, **exact},
    )
    pairs = [(row, labels_of(row)) for row in rows]
    for matcher in query.matchers:
        pairs = matcher.filter(pairs, _value_of(matcher.name))
    found = [row for row, _ in pairs][: query.limit]
    by_series: dict[int, list[Row]] = {row["series_id"]: [] for row in found}
    for sample in ask(_SAMPLES, {**times, "series": list(by_series)}):
        by_series[sample["series_id"]].append(sample)
    return [{**row, "samples": by_series[row["series_id"]]} for row in found]


def _value_of(name: str) -> Callable[[tuple[Row, dict[str, str]]], str]:
    return lambda pair: pair[1].get(name, "")


def label_names(ask: Ask, since_ns: int, until_ns: int) -> Sequence[str]:
    """Names of labels of series with a sample in a range of time, sorted."""
    return sorted({name for labels in _labels(ask, since_ns, until_ns) for name in labels})


def label_values(ask: Ask, name: str, since_ns: int, until_ns: int) -> Sequence[str]:
    """Values of a label among the series with a sample in a range of time, sorted."""
    found = (labels.get(name, "") for labels in _labels(ask, since_ns, until_ns))
    return sorted({value for value in found if value})


def _labels(ask: Ask, since_ns: int, until_ns: int) -> list[dict[str, str]]:
    return [labels_of(row) for row in ask(_IN_RANGE, {"since": since_ns, "until": until_ns})]


_COLUMNS: Final = {NAME_LABEL: "name", SERVICE_LABEL: "service", INSTANCE_LABEL: "instance"}
