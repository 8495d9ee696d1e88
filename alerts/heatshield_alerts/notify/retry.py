"""Deliver, and try again."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from heatshield.clock import Clock, Waitable
from heatshield_alerts.notify.deliver import DeliveryError, Sender
from heatshield_alerts.notify.notice import Notice

__all__ = ["RetryPolicy", "RetryStage"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try.

    Attributes:
        first_s: longest wait before the second attempt; doubles with each.
        longest_s: and grows to this.
        give_up_s: after this many seconds a message is old news; the next one will tell.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    give_up_s: float = 120.0

    def wait_s(self, attempt: int, chance: float) -> float:
        """Seconds to wait after the given failed attempt (1, 2, …), with full jitter.

        Args:
            attempt: which one failed.
            chance: a uniform random number in [0, 1).
        """
        return chance * min(self.longest_s, self.first_s * 2.0 ** min(attempt - 1, 16))


class RetryStage:
    """Hands the message to the sender until it is taken.

    Args:
        sender: of the target.
        clock: for giving up, and what is waited on between attempts.
        ending: set when all is to end; cuts a wait short, and then it gives up.
        policy: how long to try.
        chance: uniform random numbers in [0, 1), for jitter: they say when a message is sent again,
            and decide nothing else.
        on_retry: told of each attempt that failed and is tried again.
    """

    def __init__(
        self,
        sender: Sender,
        clock: Clock,
        ending: Waitable,
        policy: RetryPolicy | None = None,
        chance: Callable[[], float] = random.random,
        on_retry: Callable[[], None] | None = None,
    ) -> None:
        self._sender = sender
        self._clock = clock
        self._ending = ending
        self._policy = policy or RetryPolicy()
        self._chance = chance
        self._on_retry = on_retry

    def run(self, notice: Notice) -> Notice:
        """Deliver the notice's message.

        Raises:
            DeliveryError: when it gave up.
        """
        started_s = self._clock.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send(notice)
            except DeliveryError:
                wait_s = self._policy.wait_s(attempt, self._chance())
                spent_s = self._clock.monotonic() - started_s
                if spent_s + wait_s > self._policy.give_up_s:
                    raise
                if self._clock.wait(self._ending, wait_s):
                    raise
                if self._on_retry:
                    self._on_retry()

    def _send(self, notice: Notice) -> Notice:
        if notice.message is None:
            raise DeliveryError("the notice was not rendered")
        self._sender.send(notice.message, notice.status)
        return notice
