"""The answer to one call: whether it may run, when, and why."""

from enum import StrEnum
from typing import Final, NamedTuple

from heatshield.call_key import SEPARATOR
from heatshield.contract import BreakerEntry, DeclaredLimit
from heatshield.rejection import TOO_MANY_REQUESTS, UNAVAILABLE

__all__ = ["CLEAR", "Decision", "Reason", "budget_key"]


class Reason(StrEnum):
    """Why a call was let through or refused."""

    CLEAR = "clear"
    """No entry names this user and call."""
    REJECTED = "rejected"
    PACED = "paced"
    """Let through within the budget of a paced key, maybe after a wait."""
    BEYOND_PACE = "beyond pace"
    """Refused, as the line of a paced key is full, or would take too long."""
    OVER_LIMIT = "over limit"
    """Refused by a declared limit."""
    COUNTED = "counted"
    """Let through, as the entry has let the request through that the call is part of."""
    TRICKLED = "trickled"
    """Let through within the rate of a trickle."""
    PROBED = "probed"
    """Let through to see whether the load is gone."""
    FLAGGED = "flagged"
    SHADOW = "shadow"
    """Would have been refused; the platform only watches."""
    LAPSING = "lapsing"
    """The lease has ended and the ramp let this call through."""
    LAPSED = "lapsed"
    """Lease and ramp are over."""
    SWITCHED_OFF = "switched off"
    """The local kill switch is thrown."""


class Decision(NamedTuple):
    """The answer to one call.

    Attributes:
        allowed: it runs, after ``delay_s``.
        entry: that decided; ``None``: none did.
        reason: why.
        retry_after_s: where it is refused, seconds after which another try makes sense.
        delay_s: seconds that it waits in line first. Whoever goes away before tells the table.
        limit: the declared limit that refuses it.
    """

    allowed: bool
    entry: BreakerEntry | None
    reason: Reason
    retry_after_s: float = 0.0
    delay_s: float = 0.0
    limit: DeclaredLimit | None = None

    @property
    def status(self) -> int:
        """Of HTTP, for a call that is refused: 429 for too many, 503 for a breaker that is open."""
        return UNAVAILABLE if self.reason is Reason.REJECTED else TOO_MANY_REQUESTS


CLEAR: Final = Decision(True, None, Reason.CLEAR)


def budget_key(entry: BreakerEntry) -> str:
    """Names what an entry does to a request; never a limit's key, which begins with its name."""
    return f"{SEPARATOR}{entry.id}{SEPARATOR}{entry.mode}"
