"""The policy that is in force, as data, and what it says of one user's call."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from heatshield.call_key import CallKey
from heatshield.contract import BreakerMode, DeclaredLimit, EntryScope
from heatshield_alerts.action_labels import LADDERS
from heatshield_alerts.caps import Caps
from heatshield_alerts.draft import Draft
from heatshield_alerts.policy.pattern import Pattern

__all__ = ["CEILINGS", "MAX_LIMITS", "NO_POLICY", "LadderFor", "Policy", "RulesPolicy"]

MAX_LIMITS: Final = 100
"""Limits that a policy declares at most: each call of a service asks all that are about it."""

CEILINGS: Final[dict[str, float]] = {
    "users_at_most": 10_000,
    "entries_at_most": 500,  # half of what a client holds
    "new_per_minute": 100,
    "user_share": 0.1,
    "traffic_share": 0.5,
}
"""How far a policy may widen the caps: beyond, a wrong rule is an outage."""


_USUAL: Final = Caps()


@dataclass(frozen=True, slots=True)
class LadderFor:
    """Steps that are taken for some calls, whatever the rule says."""

    calls: Pattern
    ladder: str


@dataclass(frozen=True)
class RulesPolicy:
    """What rules may do. None of it binds a person.

    Attributes:
        never_calls: ``service/call`` that no rule may trip.
        never_users: users whom no rule may cut.
        users_at_most: users whom rules may cut at once; ``None``: as many as ``user_share`` says.
        entries_at_most: entries that may be held when a rule asks for a further one.
        new_per_minute: entries made in a minute, beyond which rules make none.
        user_share: of the active users that rules may cut, 0 to 1; always at least one user.
        traffic_share: of a call's traffic that rules may hold up, 0 to 1.
        reject_at_once_over_s: busy seconds of one call, beyond which it is refused at once where it
            would be paced first; ``None``: none is.
        ladders: the first that matches a call goes before what the rule says.
    """

    never_calls: tuple[Pattern, ...] = ()
    never_users: tuple[Pattern, ...] = ()
    users_at_most: int | None = None
    entries_at_most: int = _USUAL.entries
    new_per_minute: int = _USUAL.new_per_minute
    user_share: float = _USUAL.user_share
    traffic_share: float = _USUAL.traffic_share
    reject_at_once_over_s: float | None = None
    ladders: tuple[LadderFor, ...] = ()

    @property
    def caps(self) -> Caps:
        """The caps on entries."""
        return Caps(
            entries=self.entries_at_most,
            user_share=self.user_share,
            new_per_minute=self.new_per_minute,
            traffic_share=self.traffic_share,
            users_at_most=self.users_at_most,
        )

    def forbids(self, draft: Draft) -> str:
        """Which line of the policy an entry is against, for people; empty: none.

        An entry around all calls of a service is around those that no rule may trip, too.
        """
        key = draft.key
        for pattern in self.never_users:
            if key.user and pattern.matches(key.user):
                return f"never_users: {pattern.text}"
        for pattern in self.never_calls:
            if _names_call(draft):
                is_about = pattern.matches(f"{key.service}/{key.call}")
            else:
                is_about = pattern.may_begin_with(f"{key.service}/")
            if is_about:
                return f"never_calls: {pattern.text}"
        return ""

    def steps(
        self, key: CallKey, mode: BreakerMode, then: BreakerMode | None, cost_s: float
    ) -> tuple[BreakerMode, BreakerMode | None]:
        """The steps that are taken for a call.

        Args:
            key: of the call.
            mode: the first step, as the rule asks for it.
            then: the second one.
            cost_s: busy seconds of one such call; 0: not known.
        """
        for one in self.ladders:
            if one.calls.matches(f"{key.service}/{key.call}"):
                mode, then = LADDERS[one.ladder]
                break
        most_s = self.reject_at_once_over_s
        if then is BreakerMode.REJECT and most_s is not None and cost_s > most_s:
            return BreakerMode.REJECT, None
        return mode, then


def _names_call(draft: Draft) -> bool:
    return draft.scope not in (EntryScope.USER_SERVICE, EntryScope.PATTERN)


@dataclass(frozen=True)
class Policy:
    """A policy.

    Attributes:
        rules: what rules may do.
        limits: so much a second for each user, call or tenant.
    """

    rules: RulesPolicy = field(default_factory=RulesPolicy)
    limits: tuple[DeclaredLimit, ...] = ()

    @cached_property
    def version(self) -> str:
        """Names what it says: the same in every collector, whatever the comments and the order of
        keys. 12 hexadecimal digits of a SHA-256.
        """
        said = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder: what the file says, with what it leaves out."""
        rules = self.rules
        return {
            "rules": {
                "never_calls": [one.text for one in rules.never_calls],
                "never_users": [one.text for one in rules.never_users],
                "users_at_most": rules.users_at_most,
                "entries_at_most": rules.entries_at_most,
                "new_per_minute": rules.new_per_minute,
                "user_share": rules.user_share,
                "traffic_share": rules.traffic_share,
                "reject_at_once_over_s": rules.reject_at_once_over_s,
                "ladders": [[one.calls.text, one.ladder] for one in rules.ladders],
            },
            "limits": [_declared(limit) for limit in self.limits],
        }


def _declared(limit: DeclaredLimit) -> dict[str, Any]:
    return {name: value for name, value in limit.to_json().items() if name != "instances"}


NO_POLICY: Final = Policy()
"""Where there is no file: the caps of :class:`~heatshield_alerts.caps.Caps`, and no limit."""
