"""Local breakers by peer and call: made at the first call, forgotten when calls stop.

There are at most :data:`MOST_BREAKERS` of them, whatever is called: users of other breakers ran
out of memory because idle ones stayed (resilience4j#703, #1221, #2243). Where room is needed, those
without a failure or slow call in memory go first, as a new one would behave the same; a flood of
peers that are called once can't push out an open breaker.
"""

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from heatshield.fork_locks import lock
from heatshield.resilience.local_breaker import DEFAULT_RULES, LocalBreaker, Rules, State

__all__ = ["IDLE_S", "MOST_BREAKERS", "LocalBreakers", "LocalState"]

Key = tuple[str, str, str]

MOST_BREAKERS: Final = 1_000
"""Breakers of about 1 KiB each. A service with more calls to more peers is a crawler."""

IDLE_S: Final = 600.0
"""Twice the longest open time: a breaker without a call for this long remembers nothing."""

SWEEP_S: Final = 60.0
"""Seconds between looks for idle ones."""

EVICTED_SHARE: Final = 8
"""Without room, one in so many goes at once, as finding them means looking at all."""


class LocalState(NamedTuple):
    """One local breaker, for people and metrics.

    Attributes:
        peer: that it calls.
        call: the operation of the peer.
        caller: the operation of this service that calls, where ``call`` says too little.
        state: closed, open or half-open.
        requests: in its window, while closed.
        failures: of these.
        slow: of these.
        refused: requests it refused in its life.
        opened: times that it opened in its life.
        reason: why it opened the last time.
        retry_after_s: seconds until the next trial.
    """

    peer: str
    call: str
    caller: str
    state: State
    requests: int
    failures: int
    slow: int
    refused: int
    opened: int
    reason: str
    retry_after_s: float


class LocalBreakers:
    """The local breakers of one process.

    Args:
        rules: of all of them.
        most: how many there may be.
        chance: uniform random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        rules: Rules = DEFAULT_RULES,
        most: int = MOST_BREAKERS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._rules = rules
        self._most = most
        self._chance = chance
        self._lock = lock()
        self._breakers: dict[Key, LocalBreaker] = {}
        self._sweep_at = float("-inf")

    def __len__(self) -> int:
        return len(self._breakers)

    def at(self, key: Key, now: float) -> LocalBreaker:
        """The breaker of (peer, call, caller)."""
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._add(key, now)
        breaker.used_at = now
        return breaker

    def _add(self, key: Key, now: float) -> LocalBreaker:
        with self._lock:
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_S
                self._forget([k for k, b in self._breakers.items() if b.used_at < now - IDLE_S])
            if len(self._breakers) >= self._most:
                ranked = sorted(self._breakers, key=lambda k: self._worth(self._breakers[k], now))
                self._forget(ranked[: max(1, self._most // EVICTED_SHARE)])
            return self._breakers.setdefault(key, LocalBreaker(self._rules, now, self._chance))

    @staticmethod
    def _worth(breaker: LocalBreaker, now: float) -> tuple[bool, float]:
        return not breaker.is_clean(now), breaker.used_at

    def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            del self._breakers[key]

    def states(self, now: float) -> tuple[LocalState, ...]:
        """All of them as they are now, by key."""
        with self._lock:
            found = sorted(self._breakers.items())
        return tuple(
            LocalState(
                *key,
                breaker.state,
                *breaker.counts(now),
                breaker.refused,
                breaker.opened,
                breaker.reason,
                breaker.retry_after_s(now),
            )
            for key, breaker in found
        )
