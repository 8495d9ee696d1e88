"""What a client counted of each breaker entry: calls refused, and the tokens of a trickle.

Counts outlive their entry until they are reported: demand that was refused decides what may close.
Not safe for threads; the table holds its lock around each call.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from heatshield.contract import BreakerEntry, Rejections

__all__ = ["MAX_ENTRIES", "Tallies", "Tally"]

MAX_ENTRIES: Final = 1_000
"""Entries a client holds: ten times what the collector may grant. A state beyond is refused."""


@dataclass(slots=True)
class Tally:
    """Counts and the trickle's tokens of one entry."""

    entry: BreakerEntry
    rejected: int = 0
    would_reject: int = 0
    tokens: float = 1.0
    filled_at: float = 0.0

    def take_token(self, rate_per_s: float, now: float) -> bool:
        """Whether a call may trickle through.

        A bucket fills at ``rate_per_s`` and holds one second's worth, at least one token.
        """
        if rate_per_s <= 0:
            return False
        filled = self.tokens + max(0.0, now - self.filled_at) * rate_per_s
        self.tokens = min(max(1.0, rate_per_s), filled)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Tallies:
    """Tallies by entry id; at most twice as many as a client holds entries."""

    def __init__(self) -> None:
        self._by_id: dict[str, Tally] = {}

    def hold(self, entries: Mapping[str, BreakerEntry]) -> None:
        """Count for these entries; keep what was counted of others until it is drained."""
        for entry_id, entry in entries.items():
            tally = self._by_id.get(entry_id)
            if tally is None:
                self._by_id[entry_id] = Tally(entry)
            else:
                tally.entry = entry
        for entry_id, tally in list(self._by_id.items()):
            is_full = len(self._by_id) > 2 * MAX_ENTRIES
            if entry_id not in entries and (is_full or not tally.rejected):
                del self._by_id[entry_id]

    def of(self, entry: BreakerEntry) -> Tally:
        """The tally of an entry."""
        tally = self._by_id.get(entry.id)
        if tally is None:  # the state was swapped since the entry was looked up
            tally = self._by_id[entry.id] = Tally(entry)
        return tally

    def drain(self, held: Collection[str]) -> tuple[Rejections, ...]:
        """Calls refused since the last drain, by entry; the counts start again at 0.

        Args:
            held: ids of entries that are counted for from now on.
        """
        rows = []
        for entry_id, tally in list(self._by_id.items()):
            if tally.rejected:
                rows.append(_row(tally))
                tally.rejected = 0
            if entry_id not in held:
                del self._by_id[entry_id]
        return tuple(rows)

    def would_have_rejected(self) -> dict[str, int]:
        """Calls by entry id that shadow mode let through although they matched."""
        return {name: t.would_reject for name, t in self._by_id.items() if t.would_reject}


def _row(tally: Tally) -> Rejections:
    entry = tally.entry
    return Rejections(
        id=entry.id, count=tally.rejected, user=entry.user, service=entry.service, call=entry.call
    )
