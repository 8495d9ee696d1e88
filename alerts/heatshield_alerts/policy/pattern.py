"""Patterns of users and of calls: ``*`` stands for any text, ``?`` for one character."""

import re
from dataclasses import dataclass, field

__all__ = ["Pattern"]


@dataclass(frozen=True)
class Pattern:
    """One pattern; every other character stands for itself.

    Attributes:
        text: as it was written.
    """

    text: str
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        stands_for = {"*": ".*", "?": "."}
        parts = (stands_for.get(one) or re.escape(one) for one in re.sub(r"\*+", "*", self.text))
        object.__setattr__(self, "_regex", re.compile("".join(parts), re.DOTALL))

    def matches(self, text: str) -> bool:
        """Whether it stands for all of a text."""
        return self._regex.fullmatch(text) is not None

    def may_begin_with(self, text: str) -> bool:
        """Whether it stands for some text that begins so."""
        states = self._skip({0})
        for character in text:
            found = set()
            for at in states:
                if at < len(self.text) and self.text[at] in ("*", "?", character):
                    found.add(at if self.text[at] == "*" else at + 1)
            states = self._skip(found)
        return bool(states)

    def _skip(self, states: set[int]) -> set[int]:
        """The same places in the pattern, and those behind a ``*``, which may be nothing."""
        reached = set(states)
        for place in states:
            at = place
            while at < len(self.text) and self.text[at] == "*":
                at += 1
                reached.add(at)
        return reached
