"""What to do with a payload after the collector's answer: pure, by OTLP's own rules.

Only 429, 502, 503 and 504 are retried, honouring ``Retry-After``; every other refusal is final.
A collector that can't be reached is tried again for a while, for it may just be restarting.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from heatshield.export.answer import Answer, retry_after_s

__all__ = ["Delivered", "Drop", "Retry", "after_answer", "after_silence", "backoff_s"]

RETRIED_STATUSES: Final = frozenset({429, 502, 503, 504})

MAX_ATTEMPTS: Final = 6
"""Tries of one payload while a collector answers that it is overloaded."""

HOLD_S: Final = 30.0
"""Seconds that one payload waits for a collector that does not answer at all: a restart fits."""

FIRST_BACKOFF_S: Final = 0.2
MIN_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0
"""Full jitter between the smallest and a doubling bound: a fleet must not return at once."""

MAX_RETRY_AFTER_S: Final = 30.0
"""A longer Retry-After is cut to this; the queue behind is bounded."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The collector has it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after so many seconds."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Give it up; ``cause`` is counted."""

    cause: str


def after_answer(
    answer: Answer, attempt: int, chance: Callable[[], float] = random.random
) -> Delivered | Retry | Drop:
    """What an HTTP answer to try number ``attempt`` (from 1) means."""
    if answer.ok:
        return Delivered()
    if answer.status not in RETRIED_STATUSES:
        return Drop("refused")
    if attempt >= MAX_ATTEMPTS:
        return Drop("overloaded")
    asked_s = retry_after_s(answer.headers, 0.0)
    return Retry(max(min(asked_s, MAX_RETRY_AFTER_S), backoff_s(attempt, chance)))


def after_silence(
    attempt: int,
    waited_s: float,
    chance: Callable[[], float] = random.random,
    *,
    is_there: bool = False,
) -> Retry | Drop:
    """What no answer to try number ``attempt`` means, ``waited_s`` after the first try.

    A collector that ``is_there`` takes connections, but did not answer in time.
    """
    if waited_s >= HOLD_S:
        return Drop("unanswered" if is_there else "unreachable")
    return Retry(backoff_s(attempt, chance))


def backoff_s(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds before try ``attempt + 1``: full jitter up to a doubling, capped bound."""
    bound = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(attempt, 16))
    return MIN_BACKOFF_S + chance() * (bound - MIN_BACKOFF_S)
