"""The question that request threads ask: may this user's call run? Never blocks, never fails."""

import asyncio
import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from opentelemetry.trace import get_current_span

from heatshield.breakers.decision import Decision, Reason
from heatshield.breakers.lease_table import BreakerTable
from heatshield.clock import Clock
from heatshield.context.request import Request, request_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.declared_limit import DeclaredLimit, LimitUnit
from heatshield.names import FLAGGED, WAITED_US
from heatshield.rejection import UNAVAILABLE, BreakerOpen
from heatshield.tracing.failure import mark_rejected

__all__ = ["GATE", "Gate", "PlaceInLine", "mark_rejected", "rejection_by"]


class PlaceInLine:
    """A call's place in the line of a paced user: it is to wait, or to leave.

    Args:
        table: that gave the place.
        decision: with the delay.
        decided_at: monotonic seconds of it.
        again: decides anew, for a call whose turn has come.
        clock: that is waited on.
    """

    def __init__(
        self,
        table: BreakerTable,
        decision: Decision,
        decided_at: float,
        again: Callable[[], BreakerOpen | None],
        clock: Clock,
    ) -> None:
        self._table, self._decision, self._decided_at = table, decision, decided_at
        self._again, self._clock = again, clock

    @property
    def delay_s(self) -> float:
        """Seconds until its turn, from when it was given."""
        return self._decision.delay_s

    def leave(self) -> None:
        """Give the place back; what was to wait does not come."""
        self._table.leave_line(self._decision, self._decided_at)

    async def wait(self) -> BreakerOpen | None:
        """Wait for the turn; ``None``: it has come. Holds nothing but this task.

        Returns:
            The refusal, where a breaker has opened for the user meanwhile.
        """
        began = self._clock.monotonic()
        request = request_in()
        if request is not None:
            request.in_line = True
        try:
            await self._clock.wait_async(asyncio.Event(), self._decision.delay_s)
        except Exception:  # noqa: BLE001  # no loop of asyncio's: fail open, invariant 13
            COUNTERS.error("pace")
            self.leave()
            return None
        except BaseException:  # the caller has gone away
            self.leave()
            raise
        finally:
            if request is not None:
                request.waited_s += self._clock.monotonic() - began
                request.in_line = False
        _note_wait(self._clock.monotonic() - began)
        entry = self._decision.entry
        if entry is None or not self._table.refuses_now(entry.id):
            return None
        refusal = self._again()
        if refusal is not None:
            refusal.at_call = refusal.status == UNAVAILABLE  # only the very call waits
        return refusal


@fail_open("pace", None)
def _note_wait(seconds: float) -> None:
    """The server span says how long it waited: that time has cost nothing."""
    request = request_in()
    span = request.span if request is not None else get_current_span()
    span.set_attribute(WAITED_US, int(seconds * 1e6))


class Gate:
    """Asks the table that is installed; without one every call is allowed."""

    def __init__(self) -> None:
        self._table: BreakerTable | None = None
        self._clock: Clock | None = None
        self._monotonic: Callable[[], float] = float

    def install(self, table: BreakerTable, clock: Clock) -> None:
        """Enforce ``table`` from now on."""
        self._monotonic, self._clock = clock.monotonic, clock
        self._table = table

    def remove(self) -> None:
        """Allow everything from now on."""
        self._table = None

    def watches(self, call: str | None = None) -> bool:
        """Whether ``call``, or any of this service, is refused to some user."""
        table = self._table
        return table is not None and table.holds(call)

    def refusal(
        self, call: str, user: str | None = None, request: Request | None = None
    ) -> BreakerOpen | None:
        """The rejection of ``call`` for ``user``, by default the acting one; ``None`` lets it run.

        For calls that can't wait: a paced user's is refused unless it is its turn. A refused call's
        server span and current span are marked. An internal error means allow.
        """
        refusal = self.admission(call, user, 0.0, request)
        return refusal if isinstance(refusal, BreakerOpen) else None

    def admission(
        self,
        call: str,
        user: str | None = None,
        most_wait_s: float = math.inf,
        request: Request | None = None,
    ) -> BreakerOpen | PlaceInLine | None:
        """The same for calls that can wait, at most so many seconds: also a place in line.

        Args:
            call: the operation.
            user: who makes it; ``None``: the acting user.
            most_wait_s: seconds that it can wait.
            request: that the call is, or is made in; ``None``: the current one. Budgets and limits
                count it once.
        """
        table, clock = self._table, self._clock
        if table is None or clock is None:
            return None
        try:
            if table.is_idle:
                return None
            if request is None:
                request = request_in()
            if user is None and request is not None:
                user = request.user
            counted = _NOTHING if request is None else _counted(request, call)
            now = self._monotonic()
            decision = table.decide(user, call, now, most_wait_s, counted)
            if decision.reason is Reason.CLEAR:
                return None
            if decision.allowed and decision.delay_s:
                asked = request
                return PlaceInLine(
                    table, decision, now, lambda: self.refusal(call, user, asked), clock
                )
            return _consequence(decision)
        except Exception:  # noqa: BLE001  # fail open, invariant 13
            COUNTERS.error("decide")
            return None

    def tripped(self, call: str) -> bool:
        """Whether a breaker is open, or flags, the acting user's ``call``; counts nothing."""
        table = self._table
        if table is None:
            return False
        try:
            request = request_in()
            user = request.user if request is not None else None
            return table.flags(user, call, self._monotonic())
        except Exception:  # noqa: BLE001  # fail open, invariant 13
            COUNTERS.error("decide")
            return False

    @property
    def counts_costs(self) -> bool:
        """Whether a declared limit is on what calls cost."""
        table = self._table
        return table is not None and table.counts_costs

    @fail_open("limits", None)
    def spent(self, user: str | None, call: str, amounts: Mapping[LimitUnit, float]) -> None:
        """A call has ended, and has cost so much."""
        table = self._table
        if table is not None:
            table.spent(user, call, amounts, self._monotonic())


_NOTHING: Final = frozenset[str]()


def _counted(request: Request, call: str) -> AbstractSet[str]:
    """What has counted a request. A guard within it is counted each time it comes."""
    if request.counted is None:
        request.counted = set()
    return request.counted if call == request.call else frozenset(request.counted)


def _consequence(decision: Decision) -> BreakerOpen | None:
    entry = decision.entry
    if decision.reason is Reason.FLAGGED and entry is not None:
        get_current_span().set_attribute(FLAGGED, entry.id)
    if decision.allowed:
        return None
    refusal = rejection_by(decision)
    mark_rejected(get_current_span(), refusal.entry_id)
    return refusal


def rejection_by(decision: Decision) -> BreakerOpen:
    """The rejection that a decision is which does not allow the call."""
    limit, entry = decision.limit, decision.entry
    name = limit.id if limit is not None else entry.id if entry is not None else ""
    headers = {} if limit is None else _headers_of(limit, decision.retry_after_s)
    return BreakerOpen(name, decision.retry_after_s, decision.status, headers)


_QUOTA_UNITS: Final = {LimitUnit.REQUESTS: "requests", LimitUnit.BYTES: "content-bytes"}
"""Of the draft; for the others it has no name, and a quota is one of requests unless it says so."""


def _headers_of(limit: DeclaredLimit, retry_after_s: float) -> dict[str, str]:
    """``RateLimit`` and its policy, by the IETF's draft-ietf-httpapi-ratelimit-headers-10."""
    unit = _QUOTA_UNITS.get(limit.unit, limit.unit.value)
    window_s = max(1, math.ceil(1 / limit.rate_per_s))  # quotas are whole numbers
    policy = f'"{limit.id}";q={max(1, round(limit.rate_per_s * window_s))};w={window_s}'
    if limit.unit is not LimitUnit.REQUESTS:
        policy += f';qu="{unit}"'
    after_s = max(1, math.ceil(retry_after_s))
    return {"ratelimit-policy": policy, "ratelimit": f'"{limit.id}";r=0;t={after_s}'}


GATE: Final = Gate()
"""This process's."""
