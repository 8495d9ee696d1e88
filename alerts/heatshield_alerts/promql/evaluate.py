"""Evaluate an expression at one instant, by Prometheus' rules.

A value is a scalar (``float``) or an instant vector (``list[Sample]``, series unique). Arithmetic
drops the metric name, a comparison that filters keeps it, ``bool`` drops it.
"""

from dataclasses import dataclass
from typing import TypeAlias

from heatshield_alerts.promql.aggregate import aggregate
from heatshield_alerts.promql.arithmetic import ARITHMETIC, COMPARISON
from heatshield_alerts.promql.expression import (
    SET,
    Aggregate,
    Binary,
    EvaluationError,
    Expression,
    Negate,
    Number,
    Selector,
)
from heatshield_alerts.promql.matching import combine, operate, set_operation
from heatshield_alerts.series import METRIC_NAME, Labels, Sample, SeriesSource

__all__ = ["Evaluator", "Value"]

Value: TypeAlias = float | list[Sample]


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates expressions; holds no state between calls.

    Attributes:
        max_samples: samples one selector may bring in; more is an error, as with Prometheus'
            ``--query.max-samples``, so that a careless rule can't stall the evaluation of the
            others. The detector's own series are bounded far below it.
    """

    max_samples: int = 100_000

    def evaluate(self, expression: Expression, source: SeriesSource, at_s: float) -> Value:
        """The value of an expression at ``at_s``, in seconds since the Unix epoch.

        Raises:
            EvaluationError: where Prometheus has no answer either (many-to-many matching,
                duplicate series), or on too many samples.
        """
        match expression:
            case Number():
                return expression.value
            case Selector():
                return self._select(expression, source, at_s)
            case Negate():
                return _negate(self.evaluate(expression.operand, source, at_s))
            case Binary():
                left = self.evaluate(expression.left, source, at_s)
                right = self.evaluate(expression.right, source, at_s)
                return _binary(expression, left, right)
            case Aggregate():
                return self._aggregate(expression, source, at_s)

    def vector(self, expression: Expression, source: SeriesSource, at_s: float) -> list[Sample]:
        """As :meth:`evaluate`, for a rule: a scalar becomes one sample without labels."""
        value = self.evaluate(expression, source, at_s)
        return value if isinstance(value, list) else [Sample(Labels(), value)]

    def _select(self, selector: Selector, source: SeriesSource, at_s: float) -> list[Sample]:
        rows = list(source.select(selector.name, selector.matchers, at_s))
        if len(rows) > self.max_samples:
            raise EvaluationError(f"{len(rows)} samples selected, {self.max_samples} allowed")
        return rows

    def _aggregate(self, expression: Aggregate, source: SeriesSource, at_s: float) -> list[Sample]:
        parameter = None
        if expression.parameter is not None:
            value = self.evaluate(expression.parameter, source, at_s)
            parameter = value if isinstance(value, float) else None
        return aggregate(expression, _vector(expression.operand, self, source, at_s), parameter)


def _vector(
    expression: Expression, evaluator: Evaluator, source: SeriesSource, at_s: float
) -> list[Sample]:
    value = evaluator.evaluate(expression, source, at_s)
    if not isinstance(value, list):
        raise EvaluationError("expected an instant vector, got a scalar")
    return value


def _negate(value: Value) -> Value:
    if isinstance(value, float):
        return -value
    return _distinct([Sample(row.labels.drop(METRIC_NAME), -row.value) for row in value])


def _binary(expression: Binary, left: Value, right: Value) -> Value:
    if isinstance(left, list):
        if not isinstance(right, list):
            return _distinct(_with_scalar(expression, left, right, scalar_left=False))
        meet = set_operation if expression.operator in SET else combine
        return _distinct(meet(expression, left, right))
    if isinstance(right, list):
        return _distinct(_with_scalar(expression, right, left, scalar_left=True))
    if expression.operator in COMPARISON:  # between scalars the grammar demands ``bool``
        return float(COMPARISON[expression.operator](left, right))
    return ARITHMETIC[expression.operator](left, right)


def _with_scalar(
    expression: Binary, vector: list[Sample], scalar: float, *, scalar_left: bool
) -> list[Sample]:
    """A vector and a scalar. A comparison that filters keeps the vector's value on either side."""
    operator, result = expression.operator, []
    nameless = operator in ARITHMETIC or expression.returns_bool
    for row in vector:
        pair = (scalar, row.value) if scalar_left else (row.value, scalar)
        value = operate(operator, *pair)
        if expression.returns_bool:
            value = float(value is not None)
        elif value is None:
            continue
        elif operator in COMPARISON:
            value = row.value
        result.append(Sample(row.labels.drop(METRIC_NAME) if nameless else row.labels, value))
    return result


def _distinct(rows: list[Sample]) -> list[Sample]:
    """The rows, if no two are of one series.

    Raises:
        EvaluationError: if two are.
    """
    if len({row.labels for row in rows}) != len(rows):
        raise EvaluationError("vector cannot contain metrics with the same labelset")
    return rows
