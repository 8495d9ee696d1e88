"""Spending at a rate: what may begin now, what in a while. Pure; no thread-safety of its own.

The generic cell rate algorithm (ITU-T I.371): of all that was spent only the moment is kept at
which the rate has paid for it. So a meter is two numbers, and spending is exact however seldom it
is looked at.
"""

from typing import Final

__all__ = ["LEAST_RATE", "Meter"]

LEAST_RATE: Final = 1e-6
"""A rate of nothing would be paid for never, and a share may be dealt anew at any moment."""


class Meter:
    """What is spent of a rate.

    Args:
        rate: units a second.

    Attributes:
        paid_at: monotonic seconds at which all that was spent is paid for.
    """

    __slots__ = ("paid_at", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = max(rate, LEAST_RATE)
        self.paid_at = float("-inf")

    def delay_s(self, now: float, burst: float = 0.0) -> float:
        """Seconds until something may be spent; 0: now.

        Args:
            now: monotonic seconds.
            burst: units that may be spent before they are paid for.
        """
        return max(0.0, self.paid_at - burst / self.rate - now)

    def left(self, now: float, burst: float) -> float:
        """Units of ``burst`` that may be spent now."""
        return max(0.0, burst - max(0.0, self.paid_at - now) * self.rate)

    def spend(self, units: float, now: float) -> None:
        """Spend now, whether or not it is paid for."""
        self.paid_at = max(self.paid_at, now) + units / self.rate

    def refund(self, units: float) -> None:
        """Take back what was spent and not used."""
        self.paid_at -= units / self.rate

    def change_rate(self, rate: float, now: float, saved_s: float = 0.0) -> None:
        """Go on at another rate; what is owed stays owed, and what is saved stays saved.

        Args:
            rate: units a second.
            now: monotonic seconds.
            saved_s: seconds' worth of the rate that may be saved up.
        """
        rate = max(rate, LEAST_RATE)
        if self.paid_at > now:
            owed = (self.paid_at - saved_s - now) * self.rate  # less than 0: it is saved
            self.paid_at = now + max(0.0, saved_s + owed / rate)
        self.rate = rate
