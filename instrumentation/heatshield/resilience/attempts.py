"""Which calls are first attempts, which are retries, and whose budget pays.

A retry library knows when something failed, and the integrations of clients see every call, but
neither knows of the other. The context in which both run joins them: it holds the peer whose call
failed last, and the peer whose next call is a retry.
"""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from heatshield.resilience.retry_budget import Budgets

__all__ = ["RETRIES", "Retries"]

_FAILED: Final[ContextVar[str]] = ContextVar("heatshield-failed-peer", default="")
_REPEATED: Final[ContextVar[str]] = ContextVar("heatshield-repeated-peer", default="")


class Retries:
    """The retry budgets of a process, and what they have allowed.

    Attributes:
        monotonic: where the time comes from.
        wanted: the service uses budgets; before that, calls are not counted.
        allowed: retries that were let through.
        refused: retries for which no budget was left.
    """

    def __init__(self) -> None:
        self.budgets = Budgets()
        self.monotonic: Callable[[], float] = time.monotonic
        self.wanted = False
        self.allowed = 0
        self.refused = 0

    def began(self, peer: str, now: float) -> None:
        """Pay a call to ``peer`` that begins into the peer's budget, unless it is a retry."""
        if _REPEATED.get() == peer:
            _REPEATED.set("")
        else:
            self.budgets.of(peer).deposit(now)

    def failed(self, peer: str) -> None:
        """Note that a call to ``peer`` failed."""
        _FAILED.set(peer)

    def may_retry(self, now: float, name: str = "") -> bool:
        """Whether the call that failed in this context may be retried; if so, the budget pays.

        Args:
            now: monotonic seconds.
            name: of the budget that pays, if not that of the peer whose call failed last.
        """
        peer = name or _FAILED.get()
        if not self.budgets.of(peer).withdraw(now):
            self.refused += 1
            return False
        self.allowed += 1
        _REPEATED.set(peer)
        return True

    def after_fork(self) -> None:
        """Start anew in a child process."""
        self.budgets.after_fork()
        self.allowed = self.refused = 0


RETRIES: Final = Retries()
"""This process's."""
