"""Pacing: one instance's part of a paced key's budget, and the line of calls that wait for it.

A call is let through when what went before it is paid for, and is then taken for what a call of
this key costs. The next ones are told when their turn comes, first come, first served. A line holds
so many calls and none waits longer than it may: whatever is beyond is refused at once, with the
time after which another try makes sense. So nothing queues but the few calls that will be run.

Pure: values in, values out; the table holds its lock around each call.
"""

from collections import deque
from typing import Final, NamedTuple

from heatshield.breakers.meter import Meter
from heatshield.contract import BreakerEntry

__all__ = ["Pacer", "Turn"]

UNKNOWN_COST_S: Final = 0.1
"""Busy seconds that a call is taken for whose cost nobody has measured."""

SAVED_S: Final = 5.0
"""Seconds' worth of the budget that a user who pauses saves up: a page of a dozen pictures comes at
once, and loads whole, if pages are not opened without pause. Nothing is saved when an entry comes
into force; what is not spent from then on is saved up, also before the first call."""

TIMER_S: Final = 0.05
"""Seconds ahead of its turn at which a call need not wait: no timer is better."""


class Turn(NamedTuple):
    """What becomes of one call.

    Attributes:
        runs: it is let through, after ``delay_s``.
        delay_s: seconds until its turn; where it is refused, until another try makes sense.
    """

    runs: bool
    delay_s: float


class Pacer:
    """Paces one key at one instance.

    Args:
        entry: that is granted.
    """

    def __init__(self, entry: BreakerEntry) -> None:
        self._entry = entry
        self._meter = Meter(entry.budget / entry.instances)
        self._turns: deque[float] = deque()
        self._began = False
        self.offered = 0.0

    def follow(self, entry: BreakerEntry, share: float, now: float) -> None:
        """Go on with an entry that may have changed, and with a share of its budget."""
        self._entry = entry
        self._meter.change_rate(entry.budget * share, now, SAVED_S)

    def begin(self, now: float) -> None:
        """The entry is in force; once is enough. All that could be saved counts as spent."""
        if not self._began:
            self._began, self._meter.paid_at = True, now + SAVED_S

    @property
    def cost(self) -> float:
        """Busy seconds that a call is taken for."""
        return self._entry.cost_per_call or UNKNOWN_COST_S

    @property
    def waiting(self) -> int:
        """Calls in line, as of the last turn that was given."""
        return len(self._turns)

    def turn(self, now: float, most_s: float) -> Turn:
        """What becomes of a call that comes now.

        Args:
            now: monotonic seconds.
            most_s: seconds it can wait; 0 where it can't.
        """
        self.offered += self.cost
        self.begin(now)
        while self._turns and self._turns[0] <= now:
            self._turns.popleft()
        delay_s = self._meter.delay_s(now, SAVED_S * self._meter.rate)
        if self._turns:  # whose turns stay as they were told, though a call left or a share grew
            delay_s = max(delay_s, self._turns[-1] - now)
        if delay_s > TIMER_S:
            most_s = min(most_s, self._entry.wait_ms / 1000)
            if delay_s > most_s or len(self._turns) >= self._entry.waiting:
                return Turn(False, delay_s * self._part())
            self._turns.append(now + delay_s)
        else:
            delay_s = 0.0
        self._meter.spend(self.cost, now)
        return Turn(True, delay_s)

    def _part(self) -> float:
        """Of an equal part of the budget, at most 1: a share of nearly nothing is dealt anew soon,
        so nobody is told to come back when that would have paid.
        """
        return min(1.0, self._meter.rate * self._entry.instances / self._entry.budget)

    def leave(self, turn_at: float) -> None:
        """A call that waited for its turn at ``turn_at`` went away before."""
        if turn_at in self._turns:
            self._turns.remove(turn_at)
            self._meter.refund(self.cost)
