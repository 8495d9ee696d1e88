"""What the embedded store knows of metrics: the newest sample of each series, and exemplars."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from heatshield_collector.store.protocol import Row, SampleQuery

__all__ = ["latest_samples"]

EXEMPLARS_READ: Final = 1_000
"""Samples with exemplars that one query reads, the newest."""

_NEWEST: Final = """
    SELECT series_id, unnest(arg_max(
        {'time_ns': time_ns, 'start_ns': start_ns, 'value': value, 'count': "count",
         'bucket_counts': bucket_counts}, time_ns
    )) FROM samples WHERE received_ns >= $since GROUP BY series_id
"""
"""A struct is never null, but its members may be: ``arg_max`` of each would skip those."""

_EXEMPLARS: Final = """
    SELECT series_id, exemplars FROM samples
    WHERE received_ns >= $since AND exemplars IS NOT NULL
    AND series_id IN (SELECT unnest($series))
    ORDER BY time_ns DESC LIMIT $limit
"""

Ask = Callable[[str, dict[str, Any]], list[Row]]
"""Runs a statement with its values."""


def latest_samples(ask: Ask, query: SampleQuery) -> Sequence[Row]:
    """What :meth:`heatshield_collector.store.protocol.Store.latest_samples` says."""
    wanted = {"name": query.name, "service": query.service}
    wanted = {column: value for column, value in wanted.items() if value is not None}
    where = "".join(f" AND series.{column} = ${column}" for column in wanted)
    rows = ask(
        f"SELECT * FROM series JOIN ({_NEWEST}) USING (series_id) WHERE true{where} "  # noqa: S608 - composed of this file's own texts, every value is bound
        "ORDER BY name, service, attribute_values, instance LIMIT $limit",
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
