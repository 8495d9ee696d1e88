"""An entry that a rule or a person asks for, and why it may be refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from heatshield.call_key import CallKey, is_plain
from heatshield.contract import (
    MAX_LEASE_MS,
    MAX_WAIT_MS,
    MAX_WAITING,
    WAIT_MS,
    WAITING,
    BreakerMode,
    EntryScope,
)
from heatshield_alerts.probes import FIRST_RATE_PER_S

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
    TOO_MUCH_TRAFFIC = "systemic: more of the call's traffic would be held up than may be"
    NO_BUDGET = "an entry that paces needs a budget"
    NEEDS_HUMAN = "entries about more than one user's calls need a person and an expiry"
    POLICY = "the policy file does not allow it"
    NO_SUCH_ENTRY = "there is no such entry"

    @property
    def systemic(self) -> bool:
        """Whether the trouble is the platform's, not one user's: tell people, cut no other user."""
        return self in (
            Reason.TOO_MANY_ENTRIES,
            Reason.TOO_MANY_USERS,
            Reason.TOO_MANY_NEW,
            Reason.TOO_MUCH_TRAFFIC,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that a rule or a person asks for.

    Attributes:
        key: the user to cut, and the call; parts that the scope leaves open are ``None`` or empty.
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
        scope: which calls it is about.
        budget: busy seconds each second that the fleet lets through, for ``pace``.
        waiting: calls that may wait at one instance, for ``pace``.
        wait_ms: how long one waits at most, for ``pace``.
        then: the next step of the ladder, taken where pacing does not end it.
        first: the step of the ladder that came before this one; ``None``: none did.
        grant_ms: how long clients lease it each time, where ``lease_ms`` is not given; ``None``: as
            usual.
        probe_per_s: calls a second that half-open lets through at first.
        traffic: the user's part of the call's calls, 0 to 1, when the entry is asked for.
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
    scope: EntryScope = EntryScope.USER_CALL
    budget: float = 0.0
    waiting: int = WAITING
    wait_ms: int = WAIT_MS
    then: BreakerMode | None = None
    first: BreakerMode | None = None
    grant_ms: int | None = None
    probe_per_s: float = FIRST_RATE_PER_S
    traffic: float = 0.0

    @property
    def heat(self) -> float:
        """The load as a multiple of what trips here: users of different services compare by it."""
        return self.load / self.threshold if self.threshold > 0 else self.load

    @property
    def by_human(self) -> bool:
        """Whether a person asks."""
        return self.issuer.startswith("human:")

    @property
    def holds_up(self) -> bool:
        """Whether a rule holds calls up with it, now or at the next step, which caps are on."""
        return not self.by_human and (self.mode is not BreakerMode.FLAG or self.then is not None)

    @property
    def refuses(self) -> bool:
        """Whether it refuses calls now; one that paces may do so at the next step."""
        step = self.then if self.mode is BreakerMode.FLAG else self.mode
        return step not in (None, BreakerMode.PACE, BreakerMode.FLAG)


def check(draft: Draft) -> Reason | None:
    """What is wrong with a draft of any issuer; ``None`` when nothing is."""
    return _misnamed(draft) or _misshapen(draft)


def _misnamed(draft: Draft) -> Reason | None:
    """What is wrong with whose calls of what it is about, and who asks."""
    key, scope = draft.key, draft.scope
    if "*" in (key.service, key.call):
        return Reason.WILDCARD
    if not scope.for_rules and not (draft.by_human and draft.lease_ms):
        return Reason.NEEDS_HUMAN
    needs_user = scope not in (EntryScope.CALL, EntryScope.TENANT_CALL)
    if needs_user and not key.user:
        return Reason.UNKNOWN_USER
    kind, _, name = draft.issuer.partition(":")
    is_issuer = kind in ("rule", "human") and name and is_plain(draft.issuer)
    is_shaped = needs_user is bool(key.user) and bool(key.call) is not (
        scope is EntryScope.USER_SERVICE
    )
    is_named = key.tenant and key.service and all(is_plain(part) for part in key if part)
    return None if is_issuer and is_shaped and is_named else Reason.BAD_DRAFT


def _misshapen(draft: Draft) -> Reason | None:
    """What is wrong with what it does, and for how long."""
    if draft.mode is BreakerMode.PACE and not 0 < draft.budget < math.inf:
        return Reason.NO_BUDGET
    fits = (
        all(ms is None or 0 < ms <= MAX_LEASE_MS for ms in (draft.lease_ms, draft.grant_ms))
        and 0 < draft.probe_per_s < math.inf
        and 0 <= draft.waiting <= MAX_WAITING
        and 0 <= draft.wait_ms <= MAX_WAIT_MS
        and 0 <= draft.rate_per_s < math.inf
    )
    return None if fits else Reason.BAD_DRAFT
