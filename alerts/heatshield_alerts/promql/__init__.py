"""PromQL at one instant: parse, evaluate."""

from heatshield_alerts.promql.evaluate import Evaluator, Value
from heatshield_alerts.promql.expression import (
    EvaluationError,
    Expression,
    ExpressionError,
    ExpressionSyntaxError,
    UnsupportedExpression,
    parse,
)

__all__ = [
    "EvaluationError",
    "Evaluator",
    "Expression",
    "ExpressionError",
    "ExpressionSyntaxError",
    "UnsupportedExpression",
    "Value",
    "parse",
]
