"""Binary operations between two vectors: which series meet, and what labels the result has.

The rules are Prometheus' (``promql/engine.go``: VectorBinop, VectorAnd, VectorOr, VectorUnless,
resultMetric), in its words where they are errors.
"""

from collections.abc import Callable
from typing import Final

from heatshield_alerts.promql.arithmetic import ARITHMETIC, COMPARISON
from heatshield_alerts.promql.expression import (
    Binary,
    Cardinality,
    EvaluationError,
    Matching,
)
from heatshield_alerts.series import METRIC_NAME, Labels, Sample

__all__ = ["combine", "operate", "set_operation"]


def operate(operator: str, left: float, right: float) -> float | None:
    """The value of ``left operator right``.

    A comparison that holds has the value ``left``, one that does not has none.
    """
    if operator in COMPARISON:
        return left if COMPARISON[operator](left, right) else None
    return ARITHMETIC[operator](left, right)


def _signature(matching: Matching) -> Callable[[Labels], Labels]:
    if matching.on:
        return lambda labels: labels.keep(matching.labels)
    return lambda labels: labels.drop(METRIC_NAME, *matching.labels)


def _and(left: list[Sample], right: list[Sample], key: Callable[[Labels], Labels]) -> list[Sample]:
    there = {key(sample.labels) for sample in right}
    return [sample for sample in left if key(sample.labels) in there]


def _unless(
    left: list[Sample], right: list[Sample], key: Callable[[Labels], Labels]
) -> list[Sample]:
    there = {key(sample.labels) for sample in right}
    return [sample for sample in left if key(sample.labels) not in there]


def _or(left: list[Sample], right: list[Sample], key: Callable[[Labels], Labels]) -> list[Sample]:
    return [*left, *_unless(right, left, key)]


_SETS: Final = {"and": _and, "or": _or, "unless": _unless}


def set_operation(expression: Binary, left: list[Sample], right: list[Sample]) -> list[Sample]:
    """``and``, ``or``, ``unless``: whole series, with their names and values, by their labels."""
    return _SETS[expression.operator](left, right, _signature(expression.matching))


def combine(expression: Binary, left: list[Sample], right: list[Sample]) -> list[Sample]:
    """Arithmetic or comparison between the series of two vectors that meet.

    Raises:
        EvaluationError: when a group has several series on a side that may have one.
    """
    if not left or not right:
        return []
    swapped = expression.matching.cardinality is Cardinality.ONE_TO_MANY
    many, one = (right, left) if swapped else (left, right)
    key = _signature(expression.matching)
    partners = _unique(one, expression.matching, key)
    seen: dict[Labels, set[Labels]] = {}
    result: list[Sample] = []
    for sample in many:
        group = key(sample.labels)
        partner = partners.get(group)
        if partner is None:
            continue
        pair = (partner.value, sample.value) if swapped else (sample.value, partner.value)
        value = operate(expression.operator, *pair)
        if expression.returns_bool:
            value = float(value is not None)
        if value is None:
            continue
        labels = _result_labels(expression, sample.labels, partner.labels)
        _claim(seen.setdefault(group, set()), labels, expression.matching.cardinality)
        result.append(Sample(labels, value))
    return result


def _unique(
    one: list[Sample], matching: Matching, key: Callable[[Labels], Labels]
) -> dict[Labels, Sample]:
    """The "one" side by group."""
    partners: dict[Labels, Sample] = {}
    for sample in one:
        group = key(sample.labels)
        other = partners.setdefault(group, sample)
        if other is not sample:
            side = "left" if matching.cardinality is Cardinality.ONE_TO_MANY else "right"
            raise EvaluationError(
                f"found duplicate series for the match group {group} on the {side} hand-side of "
                f"the operation: [{sample.labels}, {other.labels}]; many-to-many matching not "
                "allowed: matching labels must be unique on one side"
            )
    return partners


def _claim(taken: set[Labels], labels: Labels, cardinality: Cardinality) -> None:
    """Note that a group has a result of these labels; it may have each only once."""
    if cardinality is Cardinality.ONE_TO_ONE and taken:
        raise EvaluationError(
            "multiple matches for labels: many-to-one matching must be explicit "
            "(group_left/group_right)"
        )
    if labels in taken:
        raise EvaluationError(
            "multiple matches for labels: grouping labels must ensure unique matches"
        )
    taken.add(labels)


def _result_labels(expression: Binary, many: Labels, one: Labels) -> Labels:
    matching = expression.matching
    labels = many
    if expression.operator in ARITHMETIC or expression.returns_bool:
        labels = labels.drop(METRIC_NAME)
    if matching.cardinality is Cardinality.ONE_TO_ONE:
        labels = labels.keep(matching.labels) if matching.on else labels.drop(*matching.labels)
    if matching.include:
        labels = labels.updated({name: one.get(name, "") for name in matching.include})
    return labels
