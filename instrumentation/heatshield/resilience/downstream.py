"""Checks before every call to another service: the deadline, the local breaker, the retry budget.

An integration asks :meth:`Downstream.begin` before it makes a call and tells :class:`Begun` how the
call ended. Nothing here does I/O, and an error in here lets the call through: a service sees only
:class:`BreakerOpen` and :class:`DeadlineExceeded`.
"""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from opentelemetry.trace import SpanKind, get_current_span

from heatshield.breakers.deadline_exceeded import DeadlineExceeded
from heatshield.clock import Clock, SystemClock
from heatshield.context.deadline import HOP_S, deadline_in, left_s
from heatshield.counters import COUNTERS
from heatshield.fork_hooks import in_child
from heatshield.rejection import MAX_ID_LENGTH, BreakerOpen
from heatshield.resilience.attempts import RETRIES
from heatshield.resilience.local_breaker import LocalBreaker, Outcome, Phase, Rules
from heatshield.resilience.peer_breakers import LocalBreakers, LocalState
from heatshield.settings import ServiceSettings
from heatshield.tracing.failure import mark_rejected

__all__ = ["DOWNSTREAM", "FAIR_S", "GIVING_BACK", "Begun", "Downstream"]

FAIR_S: Final = 1.0
"""A peer that had less time than this, because the deadline was near, and did not answer has not
failed: otherwise one caller with short deadlines could break a call for all users."""

GIVING_BACK: Final[ContextVar[bool]] = ContextVar("heatshield-giving-back", default=False)
"""True while the service gives something back that others wait for, such as a lock: such a call is
made whatever its request's deadline and its peer's breaker say."""

_UNPRINTABLE: Final = re.compile(r"[^ -~]")


class Begun:
    """A call that was let through. Its end is told once; a call without an end counts neither way.

    Attributes:
        left_s: seconds that the request's deadline leaves it, if there is one.
    """

    __slots__ = ("_at", "_breaker", "_cut", "_downstream", "_peer", "_phase", "left_s")

    def __init__(
        self,
        downstream: "Downstream",
        peer: str,
        at: float,
        left_s: float | None,
        breaker: LocalBreaker | None = None,
        phase: Phase | None = None,
    ) -> None:
        self._downstream = downstream
        self._peer = peer
        self._at = at
        self._breaker = breaker
        self._phase = phase
        self._cut = False
        self.left_s = left_s

    def timeout_s(self, own_s: float | None) -> float | None:
        """The timeout to use where the client's own is ``own_s``: no longer than is left."""
        left_s = self.left_s
        if left_s is None or (own_s is not None and own_s <= left_s):
            return own_s
        self._cut = left_s < FAIR_S
        return left_s

    def timed_out(self, *, patient: bool = False) -> None:
        """No answer came in time."""
        self.end(Outcome.CUT if self._cut else Outcome.FAILURE, patient=patient)

    def end(self, outcome: Outcome, *, patient: bool = False) -> None:
        """Tell how it ended.

        Args:
            outcome: as a breaker sees it.
            patient: a long call is no slow one, like a stream or a blocking pop.
        """
        try:
            if outcome is Outcome.FAILURE:
                RETRIES.failed(self._peer)
            if self._breaker is not None and self._phase is not None:
                now = self._downstream.monotonic()
                self._breaker.record(self._phase, outcome, 0.0 if patient else now - self._at, now)
        except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
            COUNTERS.error("downstream")


class Downstream:
    """Makes the checks that the settings ask for: none, until an integration installs it.

    Attributes:
        enforce: ``False`` refuses nothing because of a breaker; may be switched at any time.
        expired: calls that were not started because no time was left.
        monotonic: where the time comes from.
    """

    def __init__(self) -> None:
        self.enforce = True
        self.expired = 0
        self.monotonic: Callable[[], float] = float
        self._users: set[str] = set()
        self._hooked = False
        self._deadlines = False
        self._breakers: LocalBreakers | None = None
        self._rules = Rules()

    def install(self, user: str, settings: ServiceSettings, clock: Clock | None = None) -> bool:
        """Make the checks that the settings ask for; returns whether there are any.

        Args:
            user: the integration that will ask; once all are removed, the breakers are forgotten.
            settings: of the service.
            clock: instead of the system's.
        """
        if not (settings.local_breakers or settings.deadlines):
            return False
        if not self._users:
            self.monotonic = RETRIES.monotonic = (clock or SystemClock()).monotonic
            self.enforce = settings.enforce
            self._rules = Rules(slow_s=settings.local_breaker_slow_s)
            self._breakers = LocalBreakers(self._rules) if settings.local_breakers else None
            self._deadlines = settings.deadlines
        self._users.add(user)
        if not self._hooked:
            self._hooked = True
            in_child(self._after_fork)
        return True

    def remove(self, user: str) -> None:
        """Make no more checks for this integration."""
        self._users.discard(user)
        if not self._users:
            self._breakers = None

    @property
    def idle(self) -> bool:
        """Whether a call here would be checked for nothing; then it needs no name either."""
        if not self._users or GIVING_BACK.get():
            return True
        return self._breakers is None and not RETRIES.wanted and deadline_in() is None

    def begin(self, peer: str, call: str, caller: Callable[[], str] | None = None) -> Begun | None:
        """Check a call; ``None`` if its end need not be told.

        Args:
            peer: host and port, or the name by which the client knows it.
            call: which of its operations; low cardinality.
            caller: tells the operation of this service that calls, where ``call`` says little.

        Raises:
            BreakerOpen: if the local breaker is open.
            DeadlineExceeded: if no time is left.
        """
        if self.idle:
            return None
        try:
            answer = self._ask(peer, call, caller)
        except Exception:  # noqa: BLE001  # an error in here lets the call through
            COUNTERS.error("downstream")
            return None
        if isinstance(answer, Begun):
            return answer
        raise answer

    def _ask(
        self, peer: str, call: str, caller: Callable[[], str] | None
    ) -> Begun | BreakerOpen | DeadlineExceeded:
        now = self.monotonic()
        left = left_s(now) if self._deadlines else None
        if left is not None and left <= HOP_S:
            self.expired += 1
            return DeadlineExceeded(f"{call} at {peer}")
        breaker = phase = None
        breakers = self._breakers
        if breakers is not None:
            key = (peer, call, "" if caller is None else caller())
            breaker = breakers.at(key, now)
            phase = breaker.allow(now)
            if phase is None and self.enforce:
                return _refusal(key, breaker.retry_after_s(now))
        if RETRIES.wanted:
            RETRIES.began(peer, now)
        return Begun(self, peer, now, left, breaker, phase)

    def states(self) -> tuple[LocalState, ...]:
        """Every local breaker as it is now."""
        breakers = self._breakers
        return () if breakers is None else breakers.states(self.monotonic())

    def status(self) -> dict[str, object]:
        """Its part of ``heatshield.status()``."""
        return {
            "local_breakers": {
                _name((state.peer, state.call, state.caller)): state.state.value
                for state in self.states()
            },
            "calls_not_started": self.expired,
            "retries_allowed": RETRIES.allowed,
            "retries_refused": RETRIES.refused,
        }

    def _after_fork(self) -> None:
        """Start anew in a child process, where another thread may have held a lock."""
        RETRIES.after_fork()
        self.expired = 0
        if self._breakers is not None:
            self._breakers = LocalBreakers(self._rules)


def _refusal(key: tuple[str, str, str], retry_after_s: float) -> BreakerOpen:
    entry_id = "local:" + _name(key)
    span = get_current_span()
    if getattr(span, "kind", None) is SpanKind.CLIENT:  # any other span is not the refused call's
        mark_rejected(span, entry_id)
    return BreakerOpen(entry_id, retry_after_s)


def _name(key: tuple[str, str, str]) -> str:
    """A key as a header can carry it."""
    peer, call, caller = key
    text = f"{peer}:{call} in {caller}" if caller else f"{peer}:{call}"
    return _UNPRINTABLE.sub("?", text)[: MAX_ID_LENGTH - len("local:")]


DOWNSTREAM: Final = Downstream()
"""This process's."""
