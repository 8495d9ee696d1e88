"""Charges whose user is not known yet.

Only the cost vector waits, by trace: for 2 s it may still be charged as if it had come with its
user; then it is charged to ``unknown``; if the user turns up within a minute it is transferred to
him, and such a transfer never counts towards a trip.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["UNKNOWN", "Charge", "PendingCharges", "Settled"]

UNKNOWN: Final = "unknown"
"""The user that nobody is."""

PATIENCE_NS: Final = 2 * 10**9
TRANSFER_NS: Final = 60 * 10**9
TRACES_MOST: Final = 100_000
CHARGES_MOST: Final = 1_000
"""Charges of one trace; with the traces' bound 64 MiB in the worst case that was measured."""


class Charge(NamedTuple):
    """What one call cost, as it waits for its user."""

    trace: int
    service: str
    call: str
    backend: str | None
    operation: str
    busy_us: int
    elements: int
    calls: int
    errors: int
    trace_id: bytes


class Settled(NamedTuple):
    """A charge that found its user, late or never."""

    charge: Charge
    user: str
    eligible: bool


class _Held(NamedTuple):
    since_ns: int
    charges: list[Charge]


class PendingCharges:
    """Holds charges by trace, oldest first.

    Attributes:
        dropped: how many were let go, by cause: ``traces`` when there were too many, ``spans`` when
            one trace had too many.
    """

    def __init__(self, traces_most: int = TRACES_MOST) -> None:
        self._most = traces_most
        self._waiting: OrderedDict[int, _Held] = OrderedDict()
        self._given_up: OrderedDict[int, _Held] = OrderedDict()
        self.dropped = {"traces": 0, "spans": 0}

    def hold(self, charges: Iterable[Charge], now_ns: int) -> None:
        """Keep charges until their user is known."""
        for charge in charges:
            held = self._waiting.get(charge.trace)
            if held is None:
                held = self._waiting[charge.trace] = _Held(now_ns, [])
            if len(held.charges) < CHARGES_MOST:
                held.charges.append(charge)
            else:
                self.dropped["spans"] += 1
        while len(self) > self._most:
            if self._given_up:
                self._given_up.popitem(last=False)
            else:
                self._waiting.popitem(last=False)
                self.dropped["traces"] += 1

    def resolve(self, trace: int, user: str, *, eligible: bool) -> list[Settled]:
        """The user of a trace is known: what waited for him."""
        settled: list[Settled] = []
        if held := self._waiting.pop(trace, None):
            settled += [Settled(charge, user, eligible) for charge in held.charges]
        if held := self._given_up.pop(trace, None):
            settled += [Settled(charge, user, eligible=False) for charge in held.charges]
        return settled

    def give_up(self, now_ns: int) -> list[Settled]:
        """What has waited too long: charged to ``unknown``, kept for a transfer, then forgotten."""
        settled: list[Settled] = []
        for trace, held in _aged(self._waiting, now_ns - PATIENCE_NS):
            settled += [Settled(charge, UNKNOWN, eligible=False) for charge in held.charges]
            self._given_up[trace] = held
        for _ in _aged(self._given_up, now_ns - TRANSFER_NS):
            pass
        return settled

    def __len__(self) -> int:
        return len(self._waiting) + len(self._given_up)


def _aged(held: OrderedDict[int, _Held], before_ns: int) -> Iterator[tuple[int, _Held]]:
    """Take out what has been held since before a moment, oldest first."""
    while held:
        trace, oldest = next(iter(held.items()))
        if oldest.since_ns > before_ns:
            return
        del held[trace]
        yield trace, oldest
