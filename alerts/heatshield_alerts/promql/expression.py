"""PromQL text → a tree of plain values that :mod:`~heatshield_alerts.promql.evaluate` walks.

The grammar and its type rules are ``promql_parser``'s. Its nodes are read once, here, into small
frozen objects: walking the parser's own costs a copy of the subtree at each step, and an
expression is evaluated four times a second. What the evaluator can't do is refused here, when the
rule is loaded, and not in the night when it is needed.

Errors::

    ExpressionError (ValueError)
    ├── ExpressionSyntaxError     the text is not PromQL
    ├── UnsupportedExpression     it is, but uses what this evaluator does not have
    └── EvaluationError           it can't be answered for these samples (evaluate.py)
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import promql_parser as parser

from heatshield_alerts.matchers import Matcher, MatcherError, MatchKind

__all__ = [
    "Aggregate",
    "Binary",
    "Cardinality",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "ExpressionSyntaxError",
    "Matching",
    "Negate",
    "Number",
    "Selector",
    "UnsupportedExpression",
    "parse",
]

ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})
COMPARISON: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET: Final = frozenset({"and", "or", "unless"})
AGGREGATIONS: Final = frozenset({"sum", "min", "max", "avg", "count", "group", "topk", "bottomk"})


class ExpressionError(ValueError):
    """An expression that can't be used; the message says why."""


class ExpressionSyntaxError(ExpressionError):
    """The text is not PromQL."""


class UnsupportedExpression(ExpressionError):  # noqa: N818 - reads as what it is in a traceback
    """PromQL that this evaluator does not have; names the function or feature."""


class EvaluationError(ExpressionError):
    """The expression has no answer for these samples, by Prometheus' rules."""


class Cardinality(StrEnum):
    """How many series of each side may meet in one group of a binary operation."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "group_left"
    ONE_TO_MANY = "group_right"


@dataclass(frozen=True, slots=True)
class Matching:
    """Which series of two vectors meet.

    Attributes:
        on: whether ``labels`` are those that must agree, or those that need not.
        labels: of ``on(...)`` or ``ignoring(...)``.
        cardinality: which side may have many.
        include: labels taken over from the "one" side.
    """

    on: bool = False
    labels: tuple[str, ...] = ()
    cardinality: Cardinality = Cardinality.ONE_TO_ONE
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """A number literal."""

    value: float


@dataclass(frozen=True, slots=True)
class Selector:
    """An instant vector selector."""

    name: str | None
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Negate:
    """Unary minus."""

    operand: "Expression"


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``; ``returns_bool`` is the ``bool`` of a comparison."""

    operator: str
    left: "Expression"
    right: "Expression"
    matching: Matching = Matching()
    returns_bool: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``operator by|without (labels) (parameter, operand)``."""

    operator: str
    operand: "Expression"
    parameter: "Expression | None" = None
    without: bool = False
    labels: tuple[str, ...] = ()


Expression = Number | Selector | Negate | Binary | Aggregate


def parse(text: str) -> Expression:
    """Read a PromQL expression.

    Raises:
        ExpressionSyntaxError: if it is not PromQL.
        UnsupportedExpression: if this evaluator can't answer it.
    """
    try:
        tree = parser.parse(text)
    except ValueError as error:
        raise ExpressionSyntaxError(f"{error} in {text!r}") from error
    return _read(tree)


def _read(node: Any) -> Expression:
    match node:
        case parser.ParenExpr():
            return _read(node.expr)
        case parser.NumberLiteral():
            return Number(node.val)
        case parser.VectorSelector():
            return _selector(node)
        case parser.UnaryExpr():
            return Negate(_read(node.expr))
        case parser.BinaryExpr():
            return _binary(node)
        case parser.AggregateExpr():
            return _aggregate(node)
        case parser.Call():
            raise UnsupportedExpression(f"function {node.func.name}() is not supported")
    feature = _UNSUPPORTED_NODES.get(type(node).__name__, type(node).__name__)
    raise UnsupportedExpression(f"{feature} is not supported: {node}")


_UNSUPPORTED_NODES: Final = {
    "MatrixSelector": "a range vector",
    "SubqueryExpr": "a subquery",
    "StringLiteral": "a string",
}

_KINDS: Final = (
    (parser.MatchOp.Equal, MatchKind.EQUAL),
    (parser.MatchOp.NotEqual, MatchKind.NOT_EQUAL),
    (parser.MatchOp.Re, MatchKind.REGEX),
    (parser.MatchOp.NotRe, MatchKind.NOT_REGEX),
)


def _selector(node: Any) -> Selector:
    if node.offset is not None:
        raise UnsupportedExpression(f"the offset modifier is not supported: {node}")
    if node.at is not None:
        raise UnsupportedExpression(f"the @ modifier is not supported: {node}")
    if node.matchers.or_matchers:
        raise UnsupportedExpression(f"'or' between matchers is not supported: {node}")
    try:
        matchers = tuple(
            Matcher(row.name, next(kind for op, kind in _KINDS if op == row.op), row.value)
            for row in node.matchers.matchers
        )
    except MatcherError as error:
        raise ExpressionSyntaxError(str(error)) from error
    return Selector(node.name, matchers)


def _binary(node: Any) -> Binary:
    operator = str(node.op)
    if operator not in ARITHMETIC | COMPARISON | SET:
        raise UnsupportedExpression(f"operator {operator!r} is not supported")
    modifier = node.modifier
    return Binary(
        operator=operator,
        left=_read(node.lhs),
        right=_read(node.rhs),
        matching=_matching(modifier) if modifier is not None else Matching(),
        returns_bool=modifier is not None and modifier.return_bool,
    )


def _matching(modifier: Any) -> Matching:
    fill = modifier.fill_values
    if fill.lhs is not None or fill.rhs is not None:
        raise UnsupportedExpression("fill values are not supported")
    on, labels = False, ()
    if modifier.matching is not None:
        on = modifier.matching.type == parser.LabelModifierType.Include
        labels = tuple(modifier.matching.labels)
    cardinality = Cardinality.ONE_TO_ONE
    if modifier.card == parser.VectorMatchCardinality.ManyToOne:
        cardinality = Cardinality.MANY_TO_ONE
    elif modifier.card == parser.VectorMatchCardinality.OneToMany:
        cardinality = Cardinality.ONE_TO_MANY
    return Matching(on, labels, cardinality, tuple(modifier.group_labels or ()))


def _aggregate(node: Any) -> Aggregate:
    operator = str(node.op)
    if operator not in AGGREGATIONS:
        raise UnsupportedExpression(f"aggregation {operator}() is not supported")
    without, labels = False, ()
    if node.modifier is not None:
        without = node.modifier.type == parser.AggModifierType.Without
        labels = tuple(node.modifier.labels)
    return Aggregate(
        operator=operator,
        operand=_read(node.expr),
        parameter=_read(node.param) if node.param is not None else None,
        without=without,
        labels=labels,
    )
