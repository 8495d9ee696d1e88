"""What an alert may do: a pure decision, with its reason.

A firing alert asks for a trip with the labels of :mod:`heatshield_alerts.action_labels`.

:func:`decide` looks at the alert and at what is known of its user. What the platform can bear
(:mod:`heatshield_alerts.caps`) breaker control asks before every entry, a person's too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import EntryScope
from heatshield.identity.wire_id import wire_id
from heatshield_alerts.action_labels import (
    ACTION_LABEL,
    DEFAULT_LADDER,
    LADDER,
    LADDERS,
    LEASE,
    MODE_LABEL,
    PROBE,
    RATE_LABEL,
    SCOPE,
    TRIP_ACTION,
)
from heatshield_alerts.draft import Draft, Reason, check
from heatshield_alerts.duration import parse_duration_s
from heatshield_alerts.policy.model import NO_POLICY, Policy
from heatshield_alerts.probes import FIRST_RATE_PER_S
from heatshield_alerts.rules.state import Alert, AlertState

__all__ = ["COLD_START_S", "Decision", "Evidence", "Refuse", "Trip", "decide", "key_of"]

COLD_START_S: Final = 120.0
"""Seconds of baseline before a rule may trip: with less, a user's usual load is not known and
every first burst looks hot. Alert, don't trip."""

_UNKNOWN_PART: Final = 0.5
"""Of what trips: the budget of a user whose fair share is not known."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the detector knows of an alert's user and call at this time.

    Attributes:
        baseline_age_s: seconds the detector has watched.
        cold_start_s: seconds it needs before it may trip.
        threshold: the load at which the user counts as hot here; 0: not known, the alert's value
            stands for it.
        cost_per_call: mean cost of one such call; 0: not known.
        budget: busy seconds each second that the user's fair share is.
        traffic: the user's part of the call's calls, 0 to 1.
        load: busy load of the user on this call; ``None``: not known, the alert's value stands for
            it.
        trace_ids: requests that show it, the worst first.
        figures: whatever else is worth keeping.
        reason: why, in one sentence; empty: the alert's summary stands for it.
    """

    baseline_age_s: float
    cold_start_s: float = COLD_START_S
    threshold: float = 0.0
    cost_per_call: float = 0.0
    budget: float = 0.0
    traffic: float = 0.0
    load: float | None = None
    trace_ids: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trip:
    """Ask breaker control for this entry."""

    draft: Draft


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do nothing, for this reason. The draft says which user would have been cut."""

    reason: Reason
    draft: Draft


Decision = Trip | Refuse


def decide(alert: Alert, evidence: Evidence, policy: Policy = NO_POLICY) -> Decision | None:
    """What a firing alert leads to; ``None`` when it does not fire or asks for nothing.

    Args:
        alert: of a rule.
        evidence: what is known of its user and call.
        policy: what rules may do.
    """
    if alert.state is not AlertState.FIRING or alert.labels.get(ACTION_LABEL) != TRIP_ACTION:
        return None
    draft = _draft(alert, evidence, policy)
    reason = _unfit(alert, draft, evidence)
    if reason is None and (line := policy.rules.forbids(draft)):
        draft = replace(draft, evidence={**draft.evidence, "policy": line})
        reason = Reason.POLICY
    return Trip(draft) if reason is None else Refuse(reason, draft)


def key_of(alert: Alert) -> CallKey:
    """The user and call that an alert's labels name; ``None``, or empty, for what they don't."""
    labels = alert.labels
    user, service, call = (wire_id(labels.get(name, "")) for name in ("user", "service", "call"))
    if _said(alert, SCOPE) == EntryScope.USER_SERVICE:
        call = ""
    return CallKey(DEFAULT_TENANT, user or None, service, call)


def _unfit(alert: Alert, draft: Draft, evidence: Evidence) -> Reason | None:
    if draft.key.user is None:
        return Reason.UNKNOWN_USER
    whole_service = draft.scope is EntryScope.USER_SERVICE
    if not draft.key.service or not (draft.key.call or whole_service):
        return Reason.MISSING_LABEL
    if _asked(alert) is None:
        return Reason.BAD_LABEL
    if evidence.baseline_age_s < evidence.cold_start_s:
        return Reason.COLD_START
    return check(draft)


def _draft(alert: Alert, evidence: Evidence, policy: Policy) -> Draft:
    load = alert.value if evidence.load is None else evidence.load
    asked = _asked(alert) or {}
    if asked:
        key, cost_s = key_of(alert), evidence.cost_per_call
        steps = policy.rules.steps(key, asked["mode"], asked["then"], cost_s)
        asked["mode"], asked["then"] = steps
    return Draft(
        key=key_of(alert),
        issuer=f"rule:{alert.rule}",
        reason=evidence.reason or alert.annotations.get("summary", alert.rule),
        evidence={
            **evidence.figures,
            # JSON has no other numbers; a ratio to nothing is infinite
            "load": alert.value if math.isfinite(alert.value) else str(alert.value),
            "busy_load": load,
            "threshold": evidence.threshold,
            "cost_per_call": evidence.cost_per_call,
            "trace_ids": list(evidence.trace_ids),
        },
        threshold=evidence.threshold or alert.value,
        cost_per_call=evidence.cost_per_call,
        load=load,
        budget=evidence.budget or _UNKNOWN_PART * (evidence.threshold or alert.value),
        traffic=evidence.traffic,
        **asked,
    )


def _asked(alert: Alert) -> dict[str, Any] | None:
    """What the alert says of the breaker; ``None`` where some of it has no meaning."""
    try:
        ladder = _said(alert, MODE_LABEL) or _said(alert, LADDER) or DEFAULT_LADDER
        mode, then = LADDERS[ladder]
        lease = _said(alert, LEASE)
        rate = float(_said(alert, RATE_LABEL) or 0.0)
        probe = float(_said(alert, PROBE) or FIRST_RATE_PER_S)
        if not (0 <= rate < math.inf and 0 < probe < math.inf):
            return None
        return {
            "mode": mode,
            "then": then,
            "scope": EntryScope(_said(alert, SCOPE) or EntryScope.USER_CALL),
            "rate_per_s": rate,
            "grant_ms": round(parse_duration_s(lease) * 1_000) if lease else None,
            "probe_per_s": probe,
        }
    except (KeyError, ValueError):
        return None


def _said(alert: Alert, name: str) -> str:
    return alert.annotations.get(name) or alert.labels.get(name, "")
