"""The aliases of users seen lately: a cache of pseudonyms, which also masks texts of no request.

A line may name a user outside of the user's request: an access log written after it, a request by
which an administrator looks at the user's page. So distinctive ids are masked in every text. Ids
like ordinary words are not: a user called ``error`` must not garble the logs of all requests.
"""

import re
from typing import Final
from urllib.parse import unquote

from heatshield.identity.pseudonym import Alias, in_lower_case, pseudonym

__all__ = ["Aliases"]

MOST: Final = 4_096
"""Users of one generation. Two are kept: those seen lately, and those before."""

MOST_ALIKE: Final = 16
"""Users found by the same run of letters or digits; their ids have other runs, too."""

_DIGITS: Final = re.compile(r"\d+")
_LETTERS: Final = re.compile(r"[^\W\d_]+")


class _Generation:
    """Some users, by id, and by the run of digits, or else of letters, that leads to their id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Alias] = {}
        self.by_pseudonym: dict[str, Alias] = {}
        self.by_digits: dict[str, list[Alias]] = {}
        self.by_letters: dict[str, list[Alias]] = {}

    def add(self, alias: Alias) -> None:
        self.by_id[alias.raw] = self.by_pseudonym[alias.pseudonym] = alias
        if not alias.distinctive:
            return
        for runs, found in (
            (_DIGITS.findall(alias.lowered), self.by_digits),
            (_LETTERS.findall(alias.lowered), self.by_letters),
        ):
            if runs:  # the run that the fewest ids share
                alike = found.setdefault(
                    min(runs, key=lambda run: (len(found.get(run, ())), -len(run))), []
                )
                alike.append(alias)
                del alike[:-MOST_ALIKE]
                return


class Aliases:
    """Pseudonyms of one key; threads may share it.

    Args:
        key: of the HMAC.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._young, self._old = _Generation(), _Generation()

    def of(self, raw: str) -> Alias:
        """The alias of a user that is seen now."""
        alias = self._young.by_id.get(raw)
        if alias is not None:
            return alias
        alias = self._old.by_id.get(raw) or Alias(raw, pseudonym(self._key, raw))
        if len(self._young.by_id) >= MOST:
            self._young, self._old = _Generation(), self._young
        self._young.add(alias)
        return alias

    def standing_for(self, raw: str, known_as: str) -> Alias | None:
        """The alias of an id if ``known_as`` is its pseudonym; any other id is not kept."""
        return self.of(raw) if pseudonym(self._key, raw) == known_as else None

    def known_as(self, known_as: str) -> Alias | None:
        """The alias that a pseudonym belongs to, if its user was seen lately."""
        return self._young.by_pseudonym.get(known_as) or self._old.by_pseudonym.get(known_as)

    def masked(self, text: str) -> str:
        """``text`` with pseudonyms for the distinctive ids among those seen lately."""
        seen = f"{text} {unquote(text)}" if "%" in text else text
        lowered = in_lower_case(seen)
        young, old = self._young, self._old
        found: list[Alias] = []
        for run in _DIGITS.findall(lowered):
            if run in young.by_digits:
                found += young.by_digits[run]
            if run in old.by_digits:
                found += old.by_digits[run]
        if young.by_letters or old.by_letters:
            for run in _LETTERS.findall(lowered):
                found += young.by_letters.get(run, ())
                found += old.by_letters.get(run, ())
        if not found:
            return text
        there = {alias for alias in found if alias.lowered in lowered}
        for alias in sorted(there, key=lambda alias: -len(alias.raw)):  # one may hold another
            text = alias.masked(text)
        return text
