"""Decides which user a request belongs to: the user of each trace, by precedence.

The lowest rank wins: the entry span's own attribute, then a server span's, then any other span's
(which baggage brought there). A trace whose spans name different users is in conflict: each user is
charged for the spans that name it, as without the conflict; what names nobody is charged to the
user of the lowest rank, and is not eligible for a trip. Else two accounts that share a trace id
would keep each other from ever being cut. Memory is bounded.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["RANK_ENTRY", "RANK_OTHER", "RANK_SERVER", "RANK_UNNAMED", "Identity", "RequestUsers"]

RANK_ENTRY: Final = 0
RANK_SERVER: Final = 1
RANK_OTHER: Final = 2
RANK_UNNAMED: Final = 9

GENERATION_NS: Final = 60 * 10**9
"""How long a user is surely remembered for spans of the trace that name none."""

GENERATION_MOST: Final = 100_000
"""Traces in a generation; a full one is closed before its time."""


class Identity(NamedTuple):
    """The user of a request, how that is known, and whether its spans agree."""

    user: str
    rank: int
    conflict: bool


class RequestUsers:
    """Remembers the user of recent traces in two generations.

    Attributes:
        shortened: generations closed before their time, that is, memory was short.
    """

    def __init__(self, most: int = GENERATION_MOST) -> None:
        self._most = most
        self._young: dict[int, Identity] = {}
        self._old: dict[int, Identity] = {}
        self._born_ns = 0
        self.shortened = 0

    def learn(self, named: Iterable[tuple[int, str, int]], now_ns: int) -> None:
        """Take in which users spans name.

        Args:
            named: (trace key, user, rank) of spans that name a user.
            now_ns: when they were received; monotonic.
        """
        self._rotate(now_ns)
        young = self._young
        for trace, user, rank in named:
            known = young.get(trace) or self._old.get(trace)
            if known is None:
                young[trace] = Identity(user, rank, conflict=False)
            elif known.user != user:
                winner = min((known.rank, known.user), (rank, user))
                young[trace] = Identity(winner[1], winner[0], conflict=True)
            elif rank < known.rank or trace not in young:
                young[trace] = known._replace(rank=min(rank, known.rank))

    def of(self, trace: int) -> Identity | None:
        """The user of a trace, if one of its spans has named one."""
        return self._young.get(trace) or self._old.get(trace)

    def _rotate(self, now_ns: int) -> None:
        aged = now_ns - self._born_ns >= GENERATION_NS
        full = len(self._young) >= self._most
        if not (aged or full):
            return
        self.shortened += full and not aged
        self._old, self._young = self._young, {}
        self._born_ns = now_ns
