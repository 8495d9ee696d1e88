"""Small numbers for texts, so that work is kept as numbers, in bounded memory."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["KEPT", "NOBODY", "REST_USERS", "Ids", "Numbers"]

NOBODY: Final = -1
"""The number of a user whom nobody knows."""

REST_USERS: Final = -2
"""The number that stands for many users."""

KEPT: Final = 100_000
"""Texts of a generation. A text that is not met again within one loses its number."""


class Ids:
    """Numbers texts in the order in which they are met; forgets those that come no more.

    Two generations, so that a flood of texts that come once takes no more memory than twice
    ``kept`` of them. A text that was forgotten gets a new number when it comes again.

    Args:
        kept: texts of a generation.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._old_names: dict[int, str] = {}
        self._next = 0

    def of(self, text: str) -> int:
        """The number of a text."""
        number = self._young.get(text)
        if number is not None:
            return number
        number = self._old.get(text)
        if number is None:
            number, self._next = self._next, self._next + 1
        if len(self._young) >= self._kept:
            self._old, self._young = self._young, {}
            self._old_names, self._names = self._names, {}
        self._young[text] = number
        self._names[number] = text
        return number

    def name(self, number: int) -> str:
        """The text of a number; empty when it was forgotten."""
        return self._names.get(number) or self._old_names.get(number, "")


@dataclass(slots=True)
class Numbers:
    """The numbers of all that work names.

    Attributes:
        users: of users.
        calls: of calls, by ``service SEPARATOR call``.
        processes: of processes, by ``service SEPARATOR instance``.
        backends: of backends, such as ``redis 10.0.0.7:6379``.
    """

    users: Ids = field(default_factory=Ids)
    calls: Ids = field(default_factory=Ids)
    processes: Ids = field(default_factory=Ids)
    backends: Ids = field(default_factory=Ids)
