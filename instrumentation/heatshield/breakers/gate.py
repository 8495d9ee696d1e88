"""The question that request threads ask: may this user's call run? Never blocks, never fails."""

from collections.abc import Callable
from typing import Final

from opentelemetry.trace import get_current_span

from heatshield.breakers.lease_table import BreakerTable, Decision, Reason
from heatshield.clock import Clock
from heatshield.context.request import request_in
from heatshield.counters import COUNTERS
from heatshield.names import FLAGGED
from heatshield.rejection import BreakerOpen
from heatshield.tracing.failure import mark_rejected

__all__ = ["GATE", "Gate", "mark_rejected"]


class Gate:
    """Asks the table that is installed; without one every call is allowed."""

    def __init__(self) -> None:
        self._table: BreakerTable | None = None
        self._monotonic: Callable[[], float] = float

    def install(self, table: BreakerTable, clock: Clock) -> None:
        """Enforce ``table`` from now on."""
        self._monotonic = clock.monotonic
        self._table = table

    def remove(self) -> None:
        """Allow everything from now on."""
        self._table = None

    def watches(self, call: str | None = None) -> bool:
        """Whether ``call``, or any of this service, is refused to some user."""
        table = self._table
        return table is not None and table.holds(call)

    def refusal(self, call: str, user: str | None = None) -> BreakerOpen | None:
        """The rejection of ``call`` for ``user``, by default the acting one; ``None`` lets it run.

        A refused call's server span and current span are marked. An internal error means allow.
        """
        table = self._table
        if table is None:
            return None
        try:
            if user is None:
                request = request_in()
                user = request.user if request is not None else None
            decision = table.decide(user, call, self._monotonic())
            return None if decision.entry is None else _consequence(decision)
        except Exception:  # noqa: BLE001  # fail open, invariant 13
            COUNTERS.error("decide")
            return None


def _consequence(decision: Decision) -> BreakerOpen | None:
    if decision.entry is None or decision.reason is Reason.CLEAR:
        return None
    if decision.reason is Reason.FLAGGED:
        get_current_span().set_attribute(FLAGGED, decision.entry.id)
    if decision.allowed:
        return None
    mark_rejected(get_current_span(), decision.entry.id)
    return BreakerOpen(decision.entry.id, decision.retry_after_s)


GATE: Final = Gate()
"""This process's."""
