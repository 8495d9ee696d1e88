"""The local breaker around one call to one peer: Armeria's circuit breaker, without I/O or clock.

Theory of operation. Three states; :data:`TRANSITIONS` holds all the ways between them::

                     TRIPPED                       WAITED
        CLOSED ------------------> OPEN ------------------> HALF_OPEN
           ^                         ^                          |  |
           |                         |      TRIAL_FAILED        |  |
           |                         +--------------------------+  |
           |                      TRIAL_SUCCEEDED                  |
           +-------------------------------------------------------+

CLOSED lets every request through and counts outcomes over a sliding window, which it judges once a
second, when a failure or a slow answer comes in. OPEN refuses every request for a while, the longer
the more often it opened in a row. The first request after that is a trial: the breaker is
HALF_OPEN and lets one through every few seconds until the outcome of one is known. A trial whose
outcome never comes (its caller went away) costs only the time until the next.

An outcome counts only in the phase in which its request was let through: a success that was under
way when the breaker opened does not close it. A request that a breaker, here or elsewhere, refused
has no outcome.

Callers pass ``now`` in monotonic seconds. Threads may share a breaker; asking a closed one takes
no lock.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from heatshield.fork_locks import lock
from heatshield.resilience.outcome_window import Counts, Window

__all__ = [
    "DEFAULT_RULES",
    "TRANSITIONS",
    "Event",
    "LocalBreaker",
    "Outcome",
    "Phase",
    "Rules",
    "State",
    "exceeded",
    "open_time_s",
]


class State(StrEnum):
    """What a breaker does."""

    CLOSED = "closed"
    """Lets every request through and counts the outcomes."""
    OPEN = "open"
    """Refuses every request."""
    HALF_OPEN = "half-open"
    """Lets a trial through now and then, refuses the rest."""


class Event(StrEnum):
    """Reasons for a breaker to change its state."""

    TRIPPED = "tripped"
    """Too many requests of the window failed or were slow."""
    WAITED = "waited"
    """A request comes after the open time is over; it becomes a trial."""
    TRIAL_SUCCEEDED = "trial succeeded"
    """The first trial that is answered in time and well."""
    TRIAL_FAILED = "trial failed"
    """The first trial that fails or is slow."""


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.CLOSED: {Event.TRIPPED: State.OPEN},
    State.OPEN: {Event.WAITED: State.HALF_OPEN},
    State.HALF_OPEN: {Event.TRIAL_SUCCEEDED: State.CLOSED, Event.TRIAL_FAILED: State.OPEN},
}


class Outcome(Enum):
    """How a request ended, as a breaker sees it."""

    SUCCESS = "success"
    FAILURE = "failure"
    REJECTED = "rejected"
    """A breaker downstream refused it: counts neither way, however long it took."""
    CUT = "cut"
    """The caller went away before the peer could be expected to answer: counts neither way,
    unless it was slow already."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a local breaker opens and for how long. Times in seconds.

    Attributes:
        failure_rate: it opens above this share of failures. Armeria's 0.5, as resilience4j's.
        failure_requests: and not before this many requests. Armeria's 10.
        slow_s: a request that takes this long is slow. resilience4j's 60: a long poll is none.
        slow_rate: it opens above this share of slow requests, the same as of failures.
        slow_requests: and not before this many requests. Alibaba Sentinel's 5.
        window_s: how far back requests count. Armeria's 20.
        update_s: how often the window is looked at. Armeria's 1.
        open_s: how long it stays open the first time. Armeria's 10.
        open_most_s: however often it opened in a row, no longer than this. Envoy's 300.
        jitter: open times vary by this share, so that many clients don't try at once.
        trial_every_s: between trials while half-open. Armeria's 3.
    """

    failure_rate: float = 0.5
    failure_requests: int = 10
    slow_s: float = 60.0
    slow_rate: float = 0.5
    slow_requests: int = 5
    window_s: float = 20.0
    update_s: float = 1.0
    open_s: float = 10.0
    open_most_s: float = 300.0
    jitter: float = 0.2
    trial_every_s: float = 3.0


DEFAULT_RULES: Final = Rules()

MOST_DOUBLINGS: Final = 16
"""Far beyond the longest open time; keeps the power small."""


@dataclass(slots=True, eq=False)
class Phase:
    """One stay in one state; a request that it let through hands it back with the outcome.

    Attributes:
        state: the state.
        next_at: when the next request may be a trial; means nothing while closed.
    """

    state: State
    next_at: float = 0.0


class LocalBreaker:
    """One breaker, closed at first.

    Args:
        rules: when it opens, and for how long.
        now: monotonic seconds.
        chance: uniform random numbers in [0, 1), for the jitter.

    Attributes:
        used_at: when it was last asked; its holder keeps it.
        refused: requests refused in its life.
        opened: times that it opened in its life.
        reason: why it opened the last time.
    """

    __slots__ = (
        "_chance", "_closed_at", "_in_a_row", "_lock", "_phase", "_rules", "_window",
        "opened", "reason", "refused", "used_at",
    )  # fmt: skip

    def __init__(
        self, rules: Rules, now: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._rules = rules
        self._chance = chance
        self._lock = lock()
        self._phase = Phase(State.CLOSED)
        self._window = Window(rules.window_s, rules.update_s, now)
        self._closed_at = float("-inf")
        self._in_a_row = 0
        self.used_at = now
        self.refused = 0
        self.opened = 0
        self.reason = ""

    @property
    def state(self) -> State:
        """The state; an open breaker half-opens when the next request asks."""
        return self._phase.state

    def allow(self, now: float) -> Phase | None:
        """Ask before a request; ``None`` refuses it, anything else goes to :meth:`record`."""
        phase = self._phase
        if phase.state is State.CLOSED:
            return phase
        with self._lock:
            return self._trial(now)

    def _trial(self, now: float) -> Phase | None:
        phase = self._phase
        if phase.state is State.CLOSED:  # meanwhile, by another thread
            return phase
        if now < phase.next_at:
            self.refused += 1
            return None
        if phase.state is State.OPEN:
            self._move(Event.WAITED, now)
        else:
            phase.next_at = now + self._rules.trial_every_s
        return self._phase

    def record(self, phase: Phase, outcome: Outcome, took_s: float, now: float) -> None:
        """Count how a request ended.

        Args:
            phase: that :meth:`allow` returned.
            outcome: how it ended.
            took_s: seconds that it took; 0 where a long call is no slow one, like a blocking pop.
            now: monotonic seconds.
        """
        slow = took_s >= self._rules.slow_s
        if outcome is Outcome.REJECTED or (outcome is Outcome.CUT and not slow):
            return
        failed = outcome is Outcome.FAILURE
        with self._lock:
            if phase is not self._phase:
                return
            if phase.state is State.HALF_OPEN:
                self._judge_trial(now, failed=failed, slow=slow)
            elif self._window.add(now, failed=failed, slow=slow) and (failed or slow):
                self._judge_window(now)

    def _judge_trial(self, now: float, *, failed: bool, slow: bool) -> None:
        if failed or slow:
            self.reason = "a trial failed" if failed else "a trial was slow"
            self._move(Event.TRIAL_FAILED, now)
        else:
            self._move(Event.TRIAL_SUCCEEDED, now)

    def _judge_window(self, now: float) -> None:
        verdict = exceeded(self._rules, self._window.counts(now))
        if verdict:
            self.reason = verdict
            self._move(Event.TRIPPED, now)

    def _move(self, event: Event, now: float) -> None:
        before = self._phase.state
        after = TRANSITIONS[before][event]
        rules = self._rules
        if after is State.CLOSED:
            self._closed_at = now
            self._window = Window(rules.window_s, rules.update_s, now)
            self._phase = Phase(after)
        elif after is State.HALF_OPEN:
            self._phase = Phase(after, now + rules.trial_every_s)
        else:
            again = before is State.HALF_OPEN or now < self._closed_at + rules.window_s
            self._in_a_row = self._in_a_row + 1 if again else 0
            self.opened += 1
            self._phase = Phase(after, now + open_time_s(rules, self._in_a_row, self._chance()))

    def retry_after_s(self, now: float) -> float:
        """Seconds after which the next request may be a trial."""
        phase = self._phase
        return 0.0 if phase.state is State.CLOSED else max(0.0, phase.next_at - now)

    def is_clean(self, now: float) -> bool:
        """Whether it is like a new one: closed, and no failure or slow request in its window."""
        with self._lock:
            return self._phase.state is State.CLOSED and self._window.is_clean(now)

    def counts(self, now: float) -> Counts:
        """The counts of its window; zeros while it is not closed."""
        with self._lock:
            return self._window.counts(now) if self._phase.state is State.CLOSED else Counts()


def exceeded(rules: Rules, counts: Counts) -> str:
    """The reason for which these requests trip a breaker; empty if they don't."""
    requests, failures, slow = counts
    if requests >= rules.failure_requests and failures > rules.failure_rate * requests:
        return f"{failures} of {requests} requests failed"
    if requests >= rules.slow_requests and slow > rules.slow_rate * requests:
        return f"{slow} of {requests} requests took {rules.slow_s:g} s or more"
    return ""


def open_time_s(rules: Rules, in_a_row: int, chance: float) -> float:
    """Seconds for which a breaker stays open, by how often it opened in a row before.

    Args:
        rules: say the first time, the cap and the jitter.
        in_a_row: 0 for the first time; the time doubles with each.
        chance: uniform in [0, 1).
    """
    doubled = math.ldexp(rules.open_s, min(in_a_row, MOST_DOUBLINGS))
    jittered = doubled * (1 + rules.jitter * (2 * chance - 1))
    return min(rules.open_most_s, jittered)
