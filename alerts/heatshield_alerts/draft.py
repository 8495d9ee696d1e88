"""An entry that a rule or a person asks for, and why it may be refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from heatshield.call_key import CallKey, is_plain
from heatshield.contract import MAX_LEASE_MS, BreakerMode

__all__ = ["Draft", "Reason", "check"]


class Reason(StrEnum):
    """Why there is no new entry."""

    COLD_START = "cold start: the baseline is too young to trip on"
    UNKNOWN_USER = "no user is named"
    MISSING_LABEL = "the alert lacks a label that names user, service or call"
    BAD_LABEL = "a heatshield_ label of the alert has a value of no meaning"
    BAD_DRAFT = "the entry asked for is not one"
    WILDCARD = "wildcards are not granted"
    HELD_DOWN = "a person cleared this key a short while ago"
    HELD_BY_HUMAN = "a person holds an entry for this key"
    FLAPPING = "this key changed its state too often"
    TOO_MANY_ENTRIES = "systemic: the platform holds as many entries as it may"
    TOO_MANY_USERS = "systemic: more users would be cut than may be"
    TOO_MANY_NEW = "systemic: too many new entries in a minute"
    NO_SUCH_ENTRY = "there is no such entry"

    @property
    def systemic(self) -> bool:
        """Whether the trouble is the platform's, not one user's: tell people, cut no other user."""
        return self in (Reason.TOO_MANY_ENTRIES, Reason.TOO_MANY_USERS, Reason.TOO_MANY_NEW)


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that a rule or a person asks for.

    Attributes:
        key: the user to cut, and the call. Without a user it is refused (:func:`check`).
        issuer: ``rule:<alertname>`` or ``human:<name>``.
        mode: what happens to matching calls.
        lease_ms: ``None``: clients lease it for the usual time and it is held up to the ceiling of
            15 minutes. Given: both end after exactly this.
        rate_per_s: for ``trickle``.
        reason: one sentence for people.
        evidence: trace ids and figures.
        threshold: the load at which this call of this user trips; a third of it clears.
        cost_per_call: load one call per second makes: how rejected calls count as demand.
            0 is "unknown": then any rejected call keeps the entry.
        load: of this call of this user when the entry is asked for, in the threshold's unit.
    """

    key: CallKey
    issuer: str
    mode: BreakerMode = BreakerMode.REJECT
    lease_ms: int | None = None
    rate_per_s: float = 0.0
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    threshold: float = 0.0
    cost_per_call: float = 0.0
    load: float = 0.0

    @property
    def heat(self) -> float:
        """The load as a multiple of what trips here: users of different services compare by it."""
        return self.load / self.threshold if self.threshold > 0 else self.load

    @property
    def by_human(self) -> bool:
        """Whether a person asks."""
        return self.issuer.startswith("human:")


def check(draft: Draft) -> Reason | None:
    """What is wrong with a draft of any issuer; ``None`` when nothing is."""
    if "*" in (draft.key.service, draft.key.call):
        return Reason.WILDCARD
    if not draft.key.user:
        return Reason.UNKNOWN_USER
    kind, _, name = draft.issuer.partition(":")
    is_issuer = kind in ("rule", "human") and name and is_plain(draft.issuer)
    if not is_issuer or not all(part and is_plain(part) for part in draft.key):
        return Reason.BAD_DRAFT
    if draft.lease_ms is not None and not 0 < draft.lease_ms <= MAX_LEASE_MS:
        return Reason.BAD_DRAFT
    if not 0 <= draft.rate_per_s < float("inf"):
        return Reason.BAD_DRAFT
    return None
