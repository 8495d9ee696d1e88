"""Series and their newest samples as people ask for them; the store's rows to the answer."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from heatshield_collector.decode.attributes import json_value
from heatshield_collector.model import attributes_of
from heatshield_collector.store.protocol import Row

__all__ = ["Bucket", "LatestSample", "MetricExemplar", "latest_sample"]

EXEMPLARS_SHOWN: Final = 10
"""Of each series, the newest."""

Number = float | str | None
"""Text is what JSON has no number for: ``NaN``, ``Infinity``, ``-Infinity``."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Observations up to a bound, inclusive, those of lower buckets too; ``+Inf`` has all."""

    le: str
    count: int


@dataclass(frozen=True, slots=True)
class MetricExemplar:
    """A request that one of the observations was made in."""

    trace_id: str
    value: Number
    time_ns: int


@dataclass(frozen=True, slots=True)
class LatestSample:
    """The newest sample of one series.

    Attributes:
        kind: gauge, counter, up_down_counter, histogram, exponential_histogram or summary.
        temporality: cumulative, delta, or empty.
        value: the number; of what has a count the sum.
        start_ns: since when it was counted; 0 when the sender did not say.
        count: observations; null where there is but one number.
        buckets: of a histogram with bounds.
        exemplars: of all samples of the time asked for, the newest first.
    """

    name: str
    kind: str
    temporality: str
    unit: str
    description: str
    service: str
    instance: str
    attributes: Mapping[str, Any]
    time_ns: int
    start_ns: int
    value: Number
    count: int | None
    buckets: Sequence[Bucket]
    exemplars: Sequence[MetricExemplar]


def latest_sample(row: Row) -> LatestSample:
    """One row of ``Store.latest_samples``."""
    attributes = attributes_of(row["attribute_keys"], row["attribute_values"])
    return LatestSample(
        name=row["name"],
        kind=row["kind"],
        temporality=row["temporality"],
        unit=row["unit"],
        description=row["description"],
        service=row["service"],
        instance=row["instance"],
        attributes={name: json_value(value) for name, value in attributes.items()},
        time_ns=row["time_ns"],
        start_ns=row["start_ns"],
        value=json_value(row["value"]),
        count=row["count"],
        buckets=list(_buckets(row["bounds"], row["bucket_counts"])),
        exemplars=[
            MetricExemplar(one["trace_id"], one["value"], one["time_ns"])
            for one in row["exemplars"][:EXEMPLARS_SHOWN]
        ],
    )


def _buckets(bounds: Sequence[float] | None, counts: Sequence[int] | None) -> Iterator[Bucket]:
    if counts is not None:
        names = [*map(str, bounds or ()), "+Inf"]
        for name, count in zip(names, itertools.accumulate(counts), strict=True):
            yield Bucket(name, count)
