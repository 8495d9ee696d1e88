"""Label matchers: ``=``, ``!=``, ``=~``, ``!~``.

Regular expressions are RE2's, anchored at both ends, and ``.`` matches a newline, as in
Prometheus. They run on the RE2 that Arrow carries, not on :mod:`re`: the syntax is exactly RE2's,
and the time is linear in the label value. Users choose label values (their ids), so a pattern that
backtracks would let one of them stall the evaluation of every rule.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["MatchKind", "Matcher", "MatcherError"]

REMEMBERED_VALUES: Final = 10_000
"""Label values a regular expression remembers its answer for; then it forgets them all. A call
into Arrow costs 120 µs, a remembered answer nothing; series are bounded to some thousands."""

T = TypeVar("T")


class MatcherError(ValueError):
    """A regular expression that RE2 does not accept."""


class MatchKind(StrEnum):
    """How a label's value is tested."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """A test of one label's value; a label that is absent has the value "".

    Args:
        name: the label.
        kind: how its value is tested.
        value: the value, or the regular expression.

    Raises:
        MatcherError: if the regular expression is not RE2.
    """

    name: str
    kind: MatchKind
    value: str
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind in (MatchKind.REGEX, MatchKind.NOT_REGEX):
            self._learn([""])

    def __str__(self) -> str:
        return f'{self.name}{self.kind}"{self.value}"'

    def matches(self, value: str) -> bool:
        """Whether a label of this value passes."""
        return bool(self.filter([value], str))

    def filter(self, rows: Sequence[T], value_of: Callable[[T], str]) -> list[T]:
        """The rows whose value passes, in order."""
        if self.kind is MatchKind.EQUAL:
            return [row for row in rows if value_of(row) == self.value]
        if self.kind is MatchKind.NOT_EQUAL:
            return [row for row in rows if value_of(row) != self.value]
        values = [value_of(row) for row in rows]
        self._learn(values)
        wanted = self.kind is MatchKind.REGEX
        known = self._known
        return [row for row, value in zip(rows, values, strict=True) if known[value] is wanted]

    def _learn(self, values: Iterable[str]) -> None:
        """Ask RE2 about the values not yet known, all in one call."""
        new = set(values) - self._known.keys()
        if not new:
            return
        if len(self._known) + len(new) > REMEMBERED_VALUES:
            self._known.clear()
            new = set(values)
        asked = list(new)
        try:
            answers = pc.match_substring_regex(
                pa.array(asked, pa.string()), pattern=f"^(?s:{self.value})$"
            )
        except pa.ArrowInvalid as error:
            raise MatcherError(f"{self}: {error}") from error
        self._known.update(zip(asked, answers.to_pylist(), strict=True))
