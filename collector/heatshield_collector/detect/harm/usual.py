r"""What is usual: how long calls take, and how much of a resource each user has.

Both lag behind what they judge: they speak of the time from one to six minutes ago, so that a
burst of this minute is not in what it is compared with. In the first two minutes there is no such
time; then they speak of all but the last seconds. And both freeze: while something is found to be
harmed, or to burn, what it does is not taken in, or a burner would become the usual after a minute.

::

    now - 6 min                                now - 1 min        now
    |[pane][pane][pane][pane] ... [pane][pane]|[pane][pane]|[filling]
     \______________ usual __________________/ \__ too new __/
"""

import math
from collections import deque
from collections.abc import Collection
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from heatshield.charge_report import BUCKETS_AN_OCTAVE, MAX_BUCKET

__all__ = ["YOUNG_S", "UsualDurations", "UsualShares", "buckets_of"]

PANE_S: Final = 30.0
LAG: Final = 2
"""Panes that are too new."""

PANES: Final = 12
"""Panes that are kept: six minutes."""

YOUNG_S: Final = 120.0
"""With less than so many seconds of history what is known is young: whatever is there is asked."""

WAIT_S: Final = 2.5
"""How long durations wait before they are taken in: harm is found within less, and what was harmed
is not usual."""

LEAST_SAMPLES: Final = 20
"""Fewer tell no 95th percentile: two of them would be above it."""

IDS_MOST: Final = 2_000
"""Calls and backends whose durations are kept: 2,000 take 16 MiB. Others are not judged."""

Integers = npt.NDArray[np.int64]

_BUCKETS: Final = MAX_BUCKET + 1
_UPPER_US: Final = 2.0 ** (np.arange(1, _BUCKETS + 1) / BUCKETS_AN_OCTAVE)


def buckets_of(us: npt.NDArray[np.float64]) -> Integers:
    """The buckets of durations in microseconds (:func:`heatshield.charge_report.bucket_of`)."""
    at = np.log2(np.maximum(us, 1.0)) * BUCKETS_AN_OCTAVE
    return np.minimum(at.astype(np.int64), MAX_BUCKET)


class Quantiles(NamedTuple):
    """Usual quantiles by number, microseconds."""

    p25_us: npt.NDArray[np.float64]
    p95_us: npt.NDArray[np.float64]


OF: Final = (0.25, 0.95)
"""Of :class:`Quantiles`, in its order."""


class UsualDurations:
    """The usual 95th percentile of durations, and share of errors, by number (of a call)."""

    def __init__(self) -> None:
        self._counts = np.zeros((16, PANES + 1, _BUCKETS), dtype=np.uint32)
        self._errors = np.zeros((16, PANES + 1), dtype=np.uint32)
        self._waiting: deque[tuple[float, Integers, Integers, Integers, Integers]] = deque()
        self._frozen_s: dict[int, float] = {}
        self._pane = -1
        self._first_s: float | None = None
        self._asked: tuple[float, Quantiles] | None = None

    def add(
        self, numbers: Integers, buckets: Integers, counts: Integers, errors: Integers, now_s: float
    ) -> None:
        """Take in durations.

        Args:
            numbers: of what each is.
            buckets: of the durations.
            counts: how many each row stands for.
            errors: how many of these failed.
            now_s: when they came, monotonic seconds.
        """
        self._advance(now_s)
        known = numbers < IDS_MOST
        if not known.all():
            numbers, buckets = numbers[known], buckets[known]
            counts, errors = counts[known], errors[known]
        if len(numbers):
            self._waiting.append((now_s, numbers, buckets, counts, errors))

    def freeze(self, numbers: Collection[int], now_s: float) -> None:
        """Take in nothing of these, from a little before now until it is not said any more."""
        for number in numbers:
            self._frozen_s[number] = now_s

    def _settle(self, now_s: float) -> None:
        """Take in what has waited for long enough to know that nothing was wrong."""
        frozen = np.fromiter(self._frozen_s, dtype=np.int64, count=len(self._frozen_s))
        while self._waiting and self._waiting[0][0] <= now_s - WAIT_S:
            at_s, numbers, buckets, counts, errors = self._waiting.popleft()
            pane = int(at_s // PANE_S)
            fresh = ~np.isin(numbers, frozen) if len(frozen) else np.ones(len(numbers), dtype=bool)
            if pane < self._pane - PANES or not fresh.any():
                continue
            numbers, buckets = numbers[fresh], buckets[fresh]
            self._grow(int(numbers.max()) + 1)
            slots = np.full(len(numbers), pane % (PANES + 1))
            np.add.at(self._counts, (numbers, slots, buckets), counts[fresh].astype(np.uint32))
            np.add.at(self._errors, (numbers, slots), errors[fresh].astype(np.uint32))
        for number in [one for one, at_s in self._frozen_s.items() if now_s - at_s > 2 * WAIT_S]:
            del self._frozen_s[number]

    def age_s(self, now_s: float) -> float:
        """Seconds of history there are."""
        return 0.0 if self._first_s is None else now_s - self._first_s

    def p95_us(self, now_s: float) -> npt.NDArray[np.float64]:
        """The usual 95th percentile of each number, microseconds; infinite where it is not known.

        Numbers beyond the end of the answer are not known.
        """
        return self.quantiles(now_s).p95_us

    def quantiles(self, now_s: float) -> "Quantiles":
        """What is usual of each number; infinite where it is not known."""
        self._advance(now_s)
        every_s = PANE_S if self.age_s(now_s) >= YOUNG_S else 2.0
        if self._asked is None or now_s - self._asked[0] >= every_s:
            self._asked = (now_s, self._quantiles(now_s))
        return self._asked[1]

    def error_share(self, number: int, now_s: float) -> float:
        """The usual share of errors, 0 to 1."""
        if number >= len(self._counts):
            return 0.0
        slots = self._slots(now_s)
        calls = int(self._counts[number, slots].sum())
        return float(self._errors[number, slots].sum()) / calls if calls else 0.0

    def _slots(self, now_s: float) -> list[int]:
        """Where the panes are that are the usual now."""
        lag = LAG if self.age_s(now_s) >= YOUNG_S else 0
        newest = self._pane - lag
        return [pane % (PANES + 1) for pane in range(self._pane - PANES, newest + 1) if pane >= 0]

    def _quantiles(self, now_s: float) -> "Quantiles":
        counts = self._counts[:, self._slots(now_s)].sum(axis=1, dtype=np.int64)
        sums = np.cumsum(counts, axis=1)
        totals = sums[:, -1]
        found = []
        for quantile in OF:
            at = (sums < quantile * totals[:, None]).sum(axis=1)
            upper = _UPPER_US[np.minimum(at, _BUCKETS - 1)]
            found.append(np.where(totals >= LEAST_SAMPLES, upper, np.inf))
        return Quantiles(*found)

    def _advance(self, now_s: float) -> None:
        pane = int(now_s // PANE_S)
        if self._first_s is None:
            self._first_s, self._pane = now_s, pane
        for passed in range(max(self._pane + 1, pane - PANES), pane + 1):
            self._counts[:, passed % (PANES + 1)] = 0
            self._errors[:, passed % (PANES + 1)] = 0
        self._pane = max(pane, self._pane)
        self._settle(now_s)

    def _grow(self, numbers: int) -> None:
        if numbers <= len(self._counts):
            return
        more = min(IDS_MOST, max(numbers, 2 * len(self._counts))) - len(self._counts)
        self._counts = np.concatenate(
            [self._counts, np.zeros((more, *self._counts.shape[1:]), np.uint32)]
        )
        self._errors = np.concatenate(
            [self._errors, np.zeros((more, *self._errors.shape[1:]), np.uint32)]
        )
        self._asked = None


class _Pane:
    __slots__ = ("number", "seconds", "total", "users")

    def __init__(self, number: int) -> None:
        self.number = number
        self.seconds = 0.0
        self.total = 0.0
        self.users: dict[int, float] = {}


USERS_MOST: Final = 2_000
"""Users that a pane that fills keeps by name."""

RECORDED: Final = 0.05
"""Part of a pane below which a user's is not kept once the pane has closed: it is taken for that
part, which is more than it was."""


SHARE_PANE_S: Final = 5.0
SHARE_LAG: Final = 12
SHARE_PANES: Final = 72
"""Of shares: panes of five seconds, sixty seconds too new, six minutes in all."""

LEAST_S: Final = 5.0
"""Seconds of history without which nothing is known of a user's share."""


class UsualShares:
    """How much of one resource each user usually has."""

    def __init__(self) -> None:
        self._panes: deque[_Pane] = deque(maxlen=SHARE_PANES)

    def add(
        self, users: dict[int, float], seconds: float, now_s: float, frozen: Collection[int] = ()
    ) -> None:
        """Take in what users had of the resource.

        Args:
            users: service seconds by user.
            seconds: over how long.
            now_s: monotonic seconds.
            frozen: users who burn; theirs is left out.
        """
        number = int(now_s // SHARE_PANE_S)
        if not self._panes or self._panes[-1].number < number:
            if self._panes:
                _close(self._panes[-1])
            self._panes.append(_Pane(number))
        pane = self._panes[-1]
        pane.seconds += seconds
        for user, spent_s in users.items():
            if user in frozen:
                continue
            pane.total += spent_s
            pane.users[user] = pane.users.get(user, 0.0) + spent_s
        if len(pane.users) > 2 * USERS_MOST:
            kept = sorted(pane.users.items(), key=lambda one: -one[1])[:USERS_MOST]
            pane.users = dict(kept)

    def usual(self, user: int, now_s: float) -> tuple[float, float] | None:
        """The usual share (0 to 1) and load (seconds a second) of a user; upper bounds.

        ``None`` while there is no history that is old enough.
        """
        now = int(now_s // SHARE_PANE_S)
        old = [pane for pane in self._panes if now - SHARE_PANES <= pane.number <= now - SHARE_LAG]
        if math.fsum(pane.seconds for pane in old) < YOUNG_S - SHARE_LAG * SHARE_PANE_S:
            old = [pane for pane in self._panes if pane.number < now]
        seconds = math.fsum(pane.seconds for pane in old)
        if seconds < LEAST_S:
            return None
        total = math.fsum(pane.total for pane in old)
        own = math.fsum(pane.users.get(user, RECORDED * pane.total) for pane in old)
        return (own / total if total else 0.0, own / seconds)


def _close(pane: _Pane) -> None:
    least = RECORDED * pane.total
    pane.users = {user: spent for user, spent in pane.users.items() if spent >= least}
