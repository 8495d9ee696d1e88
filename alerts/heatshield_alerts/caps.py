"""How much may be cut at once: a wrong rule must not do what a hot user can't."""

from dataclasses import dataclass

from heatshield_alerts.draft import Draft, Reason

__all__ = ["Caps", "Occupancy", "cap"]


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps on entries.

    Attributes:
        entries: at most, of people and rules: more than a person can look through is no protection.
        user_share: of the active users that rules may cut; always at least one user.
        new_per_minute: entries, of both: faster is a storm, and cutting does not end storms.
    """

    entries: int = 100
    user_share: float = 0.01
    new_per_minute: int = 20

    def users(self, active_users: int) -> int:
        """How many users rules may cut, of so many active ones."""
        return max(1, int(self.user_share * active_users))


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is held at the time of asking.

    Attributes:
        entries: held, open or half-open.
        users_cut_by_rules: distinct users of entries whose issuer is a rule.
        new_last_minute: entries made in the last 60 s, gone or not.
        active_users: users seen lately.
    """

    entries: int
    users_cut_by_rules: frozenset[str]
    new_last_minute: int
    active_users: int


def cap(draft: Draft, occupancy: Occupancy, caps: Caps) -> Reason | None:
    """Which cap a new entry would break; ``None`` when none.

    The share of users binds rules alone: a person who cuts a second user of fifty knows it.
    """
    if occupancy.entries >= caps.entries:
        return Reason.TOO_MANY_ENTRIES
    if occupancy.new_last_minute >= caps.new_per_minute:
        return Reason.TOO_MANY_NEW
    if not draft.by_human:
        cut = occupancy.users_cut_by_rules | {draft.key.user}
        if len(cut) > caps.users(occupancy.active_users):
            return Reason.TOO_MANY_USERS
    return None
