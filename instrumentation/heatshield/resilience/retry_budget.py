"""Retry budgets: retries are bounded by the requests that they repeat.

After Finagle's ``RetryBudget`` and its defaults. Each first attempt deposits a fifth of a retry,
each retry withdraws one, and both are forgotten after ten seconds; a reserve of ten retries for
each of those seconds serves clients that call rarely or have just begun. So over any ten seconds a
peer that fails every call gets 1.2 times the load and a hundred requests more, where three attempts
each would triple it, and that loop keeps an overloaded service down.

A budget has a *name*: a peer's, as clients address it, or one that the code chooses.
"""

from collections import deque
from typing import Final

from heatshield.fork_locks import lock

__all__ = ["MOST_BUDGETS", "RESERVE_PER_S", "SHARE", "TTL_S", "Budgets", "RetryBudget"]

TTL_S: Final = 10.0
"""Seconds for which deposits and withdrawals are remembered, at least."""

SHARE: Final = 0.2
"""Retries that one first attempt allows."""

RESERVE_PER_S: Final = 10.0
"""Retries a second that need no first attempts."""

SLOT_S: Final = 1.0
"""Deposits and withdrawals within this time are forgotten together."""

MOST_BUDGETS: Final = 1_000
"""Names with a budget of their own; beyond that the oldest makes room."""

RETRY: Final = 1_000
"""Cost of a retry in whole numbers, so that no rounding adds up."""


class RetryBudget:
    """One budget. Threads may share it.

    Args:
        share: retries that one first attempt allows.
        reserve_per_s: retries a second that need no first attempts.
        ttl_s: seconds for which deposits and withdrawals are remembered.
    """

    __slots__ = ("_deposit", "_lock", "_remembered", "_reserve", "_slots", "_ttl_s")

    def __init__(
        self, share: float = SHARE, reserve_per_s: float = RESERVE_PER_S, ttl_s: float = TTL_S
    ) -> None:
        self._deposit = round(share * RETRY)
        self._reserve = round(reserve_per_s * ttl_s * RETRY)
        self._ttl_s = ttl_s
        self._lock = lock()
        self._slots: deque[tuple[float, int]] = deque()
        self._remembered = 0

    def deposit(self, now: float) -> None:
        """Count a first attempt; ``now`` in monotonic seconds."""
        with self._lock:
            self._forget(now)
            self._add(self._deposit, now)

    def withdraw(self, now: float) -> bool:
        """Whether one retry may be made; if so, it is counted."""
        with self._lock:
            self._forget(now)
            if self._reserve + self._remembered < RETRY:
                return False
            self._add(-RETRY, now)
            return True

    def balance(self, now: float) -> int:
        """Retries that may be made now."""
        with self._lock:
            self._forget(now)
            return max(0, self._reserve + self._remembered) // RETRY

    def _add(self, amount: int, now: float) -> None:
        if self._slots and now < self._slots[-1][0] + SLOT_S:
            began, so_far = self._slots[-1]
            self._slots[-1] = (began, so_far + amount)
        else:
            self._slots.append((now, amount))
        self._remembered += amount

    def _forget(self, now: float) -> None:
        oldest = now - self._ttl_s - SLOT_S
        while self._slots and self._slots[0][0] <= oldest:
            self._remembered -= self._slots.popleft()[1]


class Budgets:
    """The budgets of one process, by name."""

    def __init__(self, most: int = MOST_BUDGETS) -> None:
        self._most = most
        self._lock = lock()
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, name: str) -> RetryBudget:
        """The budget of that name; a new one holds its reserve only."""
        found = self._budgets.get(name)
        return self._add(name) if found is None else found

    def _add(self, name: str) -> RetryBudget:
        with self._lock:
            while len(self._budgets) >= self._most:
                del self._budgets[next(iter(self._budgets))]
            return self._budgets.setdefault(name, RetryBudget())

    def balances(self, now: float) -> dict[str, int]:
        """Retries that may be made now, by name."""
        with self._lock:
            found = sorted(self._budgets.items())
        return {name: budget.balance(now) for name, budget in found}

    def after_fork(self) -> None:
        """Start anew in a child process, where another thread may have held a lock."""
        self._lock = lock()
        self._budgets = {}
