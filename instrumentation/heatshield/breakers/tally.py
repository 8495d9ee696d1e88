"""What a client counted of each breaker entry: calls refused, tokens of a trickle, a paced line.

Counts outlive their entry until they are reported: demand that was refused decides what may close.
Not safe for threads; the table holds its lock around each call.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from heatshield.breakers.pacing import Pacer
from heatshield.contract import SHARE_S, BreakerEntry, BreakerMode, Offered, Rejections

__all__ = ["MAX_ENTRIES", "Tallies", "Tally"]

MAX_ENTRIES: Final = 1_000
"""Entries a client holds: ten times what the collector may grant. A state beyond is refused."""


@dataclass(slots=True)
class Tally:
    """Counts, the trickle's tokens and the pacer of one entry."""

    entry: BreakerEntry
    rejected: int = 0
    would_reject: int = 0
    tokens: float = 1.0
    filled_at: float = 0.0
    pacer: Pacer | None = None
    share: float | None = None  # of the budget, as it was dealt
    share_until: float = 0.0

    def paced(self, now: float) -> Pacer:
        """Its pacer, as the entry and the share are now."""
        if self.pacer is None:
            self.pacer = Pacer(self.entry)
        equal = 1 / self.entry.instances
        share = self.share
        if share is None or now >= self.share_until:
            share = equal if share is None else min(share, equal)
        self.pacer.follow(self.entry, share, now)
        return self.pacer

    def take_probe(self, rate_per_s: float, now: float) -> bool:
        """Whether a call may probe: evenly spaced, so that no second has more than its quota."""
        return self.take_token(rate_per_s, now, most=1.0)

    def take_token(self, rate_per_s: float, now: float, most: float | None = None) -> bool:
        """Whether a call may trickle through.

        A bucket fills at ``rate_per_s`` and holds ``most``: by default one second's worth, at least
        one token.
        """
        if rate_per_s <= 0:
            return False
        filled = self.tokens + max(0.0, now - self.filled_at) * rate_per_s
        self.tokens = min(max(1.0, rate_per_s) if most is None else most, filled)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Tallies:
    """Tallies by entry id; at most twice as many as a client holds entries."""

    def __init__(self) -> None:
        self._by_id: dict[str, Tally] = {}
        self._over_limits: Counter[tuple[str, str, str]] = Counter()
        self._would_limit: Counter[str] = Counter()

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

    def over_limit(self, limit_id: str, user: str | None, call: str, *, shadow: bool) -> None:
        """A declared limit refused a call, or would have."""
        if shadow:
            self._would_limit[limit_id] += 1
            return
        key = (limit_id, user or "", call)
        if key not in self._over_limits and len(self._over_limits) >= MAX_ENTRIES:
            key = (limit_id, "", call)  # as many users as that are told of together
        self._over_limits[key] += 1

    def drain(self, held: Collection[str], service: str) -> tuple[Rejections, ...]:
        """Calls refused since the last drain, by entry or limit; the counts start again at 0.

        Args:
            held: ids of entries that are counted for from now on.
            service: of this process.
        """
        rows = [
            Rejections(limit_id, count, user, service, call)
            for (limit_id, user, call), count in self._over_limits.items()
        ]
        self._over_limits.clear()
        for entry_id, tally in list(self._by_id.items()):
            if tally.rejected:
                rows.append(_row(tally))
                tally.rejected = 0
            if entry_id not in held:
                del self._by_id[entry_id]
        return tuple(rows)

    def deal(self, shares: Mapping[str, float], sent_at: float, now: float) -> None:
        """Take shares of paced entries' budgets, which hold for a while from ``sent_at``.

        From the first deal on, what is not spent is saved up, though no call has come yet.
        """
        for entry_id, share in shares.items():
            tally = self._by_id.get(entry_id)
            if tally is not None:
                tally.share, tally.share_until = share, sent_at + SHARE_S
                if tally.entry.mode is BreakerMode.PACE:
                    tally.paced(now).begin(now)

    def offered(self, paced: AbstractSet[str], seconds: float) -> list[Offered]:
        """What came of paced keys, busy seconds a second; counts anew.

        Also where nothing came: another instance may spend what this one does not.

        Args:
            paced: ids of the entries by which this service paces.
            seconds: since this was asked last.
        """
        rows = []
        for entry_id in sorted(paced & self._by_id.keys()):
            tally = self._by_id[entry_id]
            came = 0.0
            if tally.pacer is not None:
                came, tally.pacer.offered = tally.pacer.offered, 0.0
            rows.append(Offered(entry_id, came / seconds, tally.share or 0.0))
        return rows

    def would_have_rejected(self) -> dict[str, int]:
        """Calls by entry id that shadow mode let through although they matched."""
        found = {name: t.would_reject for name, t in self._by_id.items() if t.would_reject}
        return found | dict(self._would_limit)


def _row(tally: Tally) -> Rejections:
    entry = tally.entry
    return Rejections(
        id=entry.id, count=tally.rejected, user=entry.user, service=entry.service, call=entry.call
    )
