"""Has breaker control go by another policy, and says what that changed.

Pure, as breaker control is: it is driven under the same lock.
"""

from dataclasses import replace

from heatshield_alerts.breaker_changes import Change, ChangeKind
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.policy.diff import differences
from heatshield_alerts.policy.model import Policy

__all__ = ["follow_policy", "has_grown"]


def follow_policy(
    control: BreakerControl, policy: Policy, by: str, now: float, before: Policy | None = None
) -> list[Change]:
    """Go by a policy from now on.

    Entries of rules that it forbids end at once. Caps that it tightens let no further entry in;
    entries above them end as they would have.

    Args:
        control: the registry.
        policy: that is in force from now on.
        by: who says so.
        now: the time.
        before: what the audit knows as in force; ``None``: what is.

    Returns:
        One change of the kind ``POLICY``, with every difference, where there is any; then the
        entries that end.
    """
    was = control.checks.policy if before is None else before
    control.checks.follow(policy)
    changes = []
    declared = control.declare(policy.limits, by, now)
    said = "; ".join(differences(was, policy))
    if said:
        text = f"policy {was.version} → {policy.version}: {said}"
        changes.append(
            Change(ChangeKind.POLICY, control.at, now, by=by, text=text, is_visible=bool(declared))
        )
    elif declared:  # as at a start: the audit knows them
        changes.append(replace(declared, is_recorded=False))
    return changes + [
        control.withdraw(held.key, by, now)
        for held in control.held
        if not held.draft.by_human and policy.rules.forbids(held.draft)
    ]


def has_grown(control: BreakerControl, now: float) -> bool:
    """Whether a declared limit is shared by at least twice as many instances as it names."""
    limits = control.snapshot().limits
    counts = control.instances.counts({one.service for one in limits}, now)
    return any(counts[one.service] >= 2 * one.instances for one in limits)
