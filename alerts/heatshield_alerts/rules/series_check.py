"""Whether the series that rules select can be there: typos in names, labels and values.

An expression over a series that no collector has, or over a window that no series has, loads and
never holds, so the rule never fires.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from heatshield_alerts.action_labels import nearest
from heatshield_alerts.matchers import Matcher, MatchKind
from heatshield_alerts.promql.expression import (
    Aggregate,
    Binary,
    Expression,
    Negate,
    Selector,
)
from heatshield_alerts.rules.load import RuleError, RuleGroup
from heatshield_alerts.series import METRIC_NAME

__all__ = ["KnownSeries", "check_series"]

KnownSeries: TypeAlias = Mapping[str, Mapping[str, Collection[str]]]
"""By name of a series, its labels, and by label the values it may have; none: any."""


def check_series(
    groups: Iterable[RuleGroup], known: KnownSeries, elsewhere: Collection[str] = ()
) -> list[str]:
    """Look for what no series can match.

    Args:
        groups: the rules.
        known: the series that rules are evaluated over.
        elsewhere: names of series that exist, but that rules here don't see.

    Returns:
        Warnings, a sentence each: selectors of other programs' series, which hold only where a
        Prometheus evaluates them.

    Raises:
        RuleError: a selector is a typo: its name begins like ours and is none, or a label or a
            value is one that its series never has.
    """
    warnings = []
    for group in groups:
        for rule in group.rules:
            where = f"{group.file}: group {group.name!r} ({rule.name}): expr: "
            for selector in _selectors(rule.expression):
                name = selector.name
                if name is None:
                    continue
                if name in known:
                    _check_matchers(name, selector.matchers, known[name], where)
                elif name.startswith("heatshield_") and name not in elsewhere:
                    raise RuleError(f"{where}no series is called {name}{nearest(name, known)}")
                else:
                    warnings.append(
                        f"{where}{name} is not among the series that the collector evaluates rules "
                        "over, so this never holds here"
                    )
    return warnings


def _check_matchers(
    series: str, matchers: Iterable[Matcher], labels: Mapping[str, Collection[str]], where: str
) -> None:
    for matcher in matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.name not in labels:
            raise RuleError(
                f"{where}{series} has no label {matcher.name!r}{nearest(matcher.name, labels)}"
            )
        values = labels[matcher.name]
        if values and not any(matcher.matches(value) for value in values):
            hint = nearest(matcher.value, values) if matcher.kind is MatchKind.EQUAL else ""
            raise RuleError(
                f"{where}no {series} matches {matcher}{hint} (there are {', '.join(values)})"
            )


def _selectors(expression: Expression | None) -> Iterator[Selector]:
    match expression:
        case Selector():
            yield expression
        case Negate():
            yield from _selectors(expression.operand)
        case Binary():
            yield from _selectors(expression.left)
            yield from _selectors(expression.right)
        case Aggregate():
            yield from _selectors(expression.operand)
            yield from _selectors(expression.parameter)
