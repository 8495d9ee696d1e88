"""Keeps charges until their user is known.

Only the cost vector waits, by trace: for 2 s it may still be charged as if it had come with its
user; then it is charged to no user (``None``). If a span names the user within a minute, the charge
is transferred to that user, and such a transfer never counts towards a trip.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from typing import Any, Final, NamedTuple, Self

__all__ = ["Charge", "PendingCharges", "Settled"]

PATIENCE_NS: Final = 2 * 10**9
"""How long a charge waits for its user."""

TRANSFER_NS: Final = 60 * 10**9
"""How long after that it may still be transferred."""

TRACES_MOST: Final = 100_000
"""Traces that have charges waiting or kept for a transfer."""

CHARGES_MOST: Final = 1_000
"""Charges of one trace."""

CHARGES_IN_ALL: Final = 100_000
"""Charges of all traces together: some 60 MiB, at up to 650 bytes each that were measured."""


_NAMES: Final = frozenset(
    {"service", "call", "backend", "operation", "key_pattern", "instance", "address"}
)


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
    rows: int
    bytes: int
    key_pattern: str | None
    size: int | None
    instance: str | None = None
    address: str | None = None
    start_ns: int = 0
    duration_ns: int = 0

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """A row of ``link.CHARGES`` without what only a charge with a user has.

        Names are few, so equal ones share one text: half the memory.
        """
        names = {name: text and intern(text) for name, text in row.items() if name in _NAMES}
        return cls(**{**row, **names})


class Settled(NamedTuple):
    """A charge that found its user, late or never.

    Attributes:
        charge: what it was.
        user: the user it is charged to; ``None`` where no span named one in time.
        eligible: whether it may count towards a trip.
        transferred: whether it was charged to no user before.
    """

    charge: Charge
    user: str | None
    eligible: bool
    transferred: bool = False


class _Held(NamedTuple):
    since_ns: int
    charges: list[Charge]


class PendingCharges:
    """Holds charges by trace, oldest first.

    Attributes:
        dropped: charges that could not be kept until their user was known, by cause: ``traces``
            when there were too many in all, ``spans`` when one trace had too many (both are
            charged to no user early), ``transfers`` when they were let go after that.
    """

    def __init__(self, traces_most: int = TRACES_MOST) -> None:
        self._most = traces_most
        self._waiting: OrderedDict[int, _Held] = OrderedDict()
        self._given_up: OrderedDict[int, _Held] = OrderedDict()
        self._charges = 0
        self.dropped = {"traces": 0, "spans": 0, "transfers": 0}

    def hold(self, charges: Iterable[Charge], now_ns: int) -> list[Settled]:
        """Keep charges until their user is known; those there is no room for are settled."""
        settled = []
        for charge in charges:
            held = self._waiting.get(charge.trace)
            if held is None:
                held = self._waiting[charge.trace] = _Held(now_ns, [])
            if len(held.charges) < CHARGES_MOST:
                held.charges.append(charge)
                self._charges += 1
            else:
                self.dropped["spans"] += 1
                settled.append(Settled(charge, None, eligible=False))
        while len(self) > self._most or self._charges > CHARGES_IN_ALL:
            settled += self._evict()
        return settled

    def resolve(self, trace: int, user: str, *, eligible: bool) -> list[Settled]:
        """Take out the charges of a trace whose user is known now."""
        waited, moved = (self._take(held, trace) for held in (self._waiting, self._given_up))
        return [
            *(Settled(charge, user, eligible) for charge in waited),
            *(Settled(charge, user, eligible=False, transferred=True) for charge in moved),
        ]

    def give_up(self, now_ns: int) -> list[Settled]:
        """Charge what has waited too long to no user; keep it for a transfer, then forget it."""
        settled: list[Settled] = []
        for trace, held in _aged(self._waiting, now_ns - PATIENCE_NS):
            settled += _to_no_user(held)
            self._give_up(trace, held)
        for _, held in _aged(self._given_up, now_ns - TRANSFER_NS):
            self._charges -= len(held.charges)
        return settled

    def _give_up(self, trace: int, held: _Held) -> None:
        """Keep for a transfer, with what was given up of this trace before."""
        if earlier := self._given_up.pop(trace, None):
            charges = earlier.charges + held.charges
            excess = max(0, len(charges) - CHARGES_MOST)
            self.dropped["transfers"] += excess
            self._charges -= excess
            held = held._replace(charges=charges[excess:])
        self._given_up[trace] = held

    def _take(self, held: OrderedDict[int, _Held], trace: int) -> list[Charge]:
        found = held.pop(trace, None)
        if found is None:
            return []
        self._charges -= len(found.charges)
        return found.charges

    def _evict(self) -> list[Settled]:
        """Let go of the oldest; what is charged already goes first."""
        if self._given_up:
            _, held = self._given_up.popitem(last=False)
            self.dropped["transfers"] += len(held.charges)
            settled = []
        else:
            _, held = self._waiting.popitem(last=False)
            self.dropped["traces"] += len(held.charges)
            settled = _to_no_user(held)
        self._charges -= len(held.charges)
        return settled

    def __len__(self) -> int:
        return len(self._waiting) + len(self._given_up)


def _to_no_user(held: _Held) -> list[Settled]:
    return [Settled(charge, None, eligible=False) for charge in held.charges]


def _aged(held: OrderedDict[int, _Held], before_ns: int) -> Iterator[tuple[int, _Held]]:
    """Take out what has been held since before a moment, oldest first."""
    while held:
        trace, oldest = next(iter(held.items()))
        if oldest.since_ns > before_ns:
            return
        del held[trace]
        yield trace, oldest
