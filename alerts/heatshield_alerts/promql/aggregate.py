"""Aggregations over an instant vector: sum, min, max, avg, count, group, topk, bottomk."""

import math
from collections.abc import Callable
from typing import Final

from heatshield_alerts.promql.arithmetic import kahan_sum
from heatshield_alerts.promql.expression import Aggregate, EvaluationError
from heatshield_alerts.series import METRIC_NAME, Labels, Sample

__all__ = ["aggregate"]

_MAX_K: Final = 2.0**63
"""topk's parameter is a 64-bit integer."""


def aggregate(expression: Aggregate, vector: list[Sample], parameter: float | None) -> list[Sample]:
    """Aggregate a vector; groups come in the order of their first series.

    Raises:
        EvaluationError: if the parameter of topk or bottomk is no 64-bit integer.
    """
    groups: dict[Labels, list[Sample]] = {}
    for sample in vector:
        groups.setdefault(_group(expression, sample.labels), []).append(sample)
    if expression.operator in ("topk", "bottomk"):
        count = _count(parameter)
        largest = expression.operator == "topk"
        return [row for rows in groups.values() for row in _select(rows, count, largest=largest)]
    reduce = _REDUCERS[expression.operator]
    return [
        Sample(labels, reduce([sample.value for sample in rows])) for labels, rows in groups.items()
    ]


def _group(expression: Aggregate, labels: Labels) -> Labels:
    if expression.without:
        return labels.drop(METRIC_NAME, *expression.labels)
    return labels.keep(expression.labels)


def _count(parameter: float | None) -> int:
    if parameter is None or not -_MAX_K <= parameter < _MAX_K:
        raise EvaluationError(f"scalar value {parameter} overflows int64")
    return max(0, int(parameter))


def _select(rows: list[Sample], count: int, *, largest: bool) -> list[Sample]:
    """The ``count`` largest or smallest, best first. NaN is worst for both."""
    sign = -1 if largest else 1
    return sorted(
        rows,
        key=lambda row: (math.isnan(row.value), 0 if math.isnan(row.value) else sign * row.value),
    )[:count]


def _minimum(values: list[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def _maximum(values: list[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _mean(values: list[float]) -> float:
    total = kahan_sum(values)
    if math.isinf(total) and not any(math.isinf(value) for value in values):
        return kahan_sum([value / len(values) for value in values])  # the sum overflowed
    return total / len(values)


_REDUCERS: Final[dict[str, Callable[[list[float]], float]]] = {
    "sum": kahan_sum,
    "min": _minimum,
    "max": _maximum,
    "avg": _mean,
    "count": lambda values: float(len(values)),
    "group": lambda _: 1.0,
}
