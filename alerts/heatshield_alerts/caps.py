"""How much may be cut at once: a wrong rule must not do what a hot user can't."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from heatshield.call_key import CallKey
from heatshield_alerts.draft import Draft, Reason

__all__ = [
    "FEW",
    "HOTTER",
    "Caps",
    "Held",
    "Occupancy",
    "Place",
    "cap",
    "cap_on_cut",
    "held_of",
    "leaving_for",
]

FEW: Final = 3
"""Users that rules may pace at once, however small the platform and however much of a call's
traffic is theirs. Two users who burn at once are most of the call's traffic together; with one of
them paced, the other burnt on, and they took each other's place every fifteen seconds. Who is paced
by mistake loses nothing, so three are no harm; refusing has no such allowance."""

HOTTER: Final = 1.5
"""Times as hot as an entry's user a further one must be to take the place. Loads waver, and each
exchange lets a user in who was cut."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps on entries. A policy may have others for rules; people keep at least the usual ones.

    Attributes:
        entries: at most, of people and rules: more than a person can look through is no protection.
        user_share: of the active users that rules may refuse, at least one user, or hold up, at
            least :data:`FEW`.
        new_per_minute: entries, of both: faster is a storm, and cutting does not end storms.
        traffic_share: of a call's traffic that rules may refuse, always one user's, or hold up,
            always that of :data:`FEW` users.
        users_at_most: that rules may cut, however many are active; ``None``: no such cap.
    """

    entries: int = 100
    user_share: float = 0.01
    new_per_minute: int = 20
    traffic_share: float = 0.1
    users_at_most: int | None = None

    def users(self, active_users: int, least: int = 1) -> int:
        """How many users rules may cut, of so many active ones; at least so many of any number."""
        share = max(least, int(self.user_share * active_users))
        return share if self.users_at_most is None else min(share, self.users_at_most)

    def at_least(self, usual: "Caps") -> "Caps":
        """For what a person asks for: a policy for rules does not tighten the usual ones."""
        return replace(
            self,
            entries=max(self.entries, usual.entries),
            new_per_minute=max(self.new_per_minute, usual.new_per_minute),
        )


class Held(NamedTuple):
    """What entries of rules hold up of a call, or of all.

    Attributes:
        users: whose calls.
        traffic: of a call, the users' part of its calls.
    """

    users: frozenset[str] = frozenset()
    traffic: float = 0.0


Calls = Mapping[tuple[str, str, str], Held]
"""By tenant, service and call."""


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is held at the time of asking.

    Attributes:
        entries: held, open or half-open.
        new_last_minute: entries made in the last 60 s, gone or not.
        active_users: users seen lately.
        held_up: what rules hold up, slowed or refused.
        refused: what they refuse.
    """

    entries: int
    new_last_minute: int
    active_users: int
    held_up: Calls = field(default_factory=dict)
    refused: Calls = field(default_factory=dict)


def cap(draft: Draft, occupancy: Occupancy, caps: Caps) -> Reason | None:
    """Which cap a new entry would break; ``None`` when none."""
    if occupancy.entries >= caps.entries:
        return Reason.TOO_MANY_ENTRIES
    if occupancy.new_last_minute >= caps.new_per_minute:
        return Reason.TOO_MANY_NEW
    return cap_on_cut(draft, occupancy, caps)


def cap_on_cut(draft: Draft, occupancy: Occupancy, caps: Caps) -> Reason | None:
    """Which cap on the users that rules cut an entry would break, a new one or a stricter one.

    The shares of users and of traffic bind rules alone: a person who cuts a second user of fifty
    knows it. A user who is flagged, and will not be held up, is not cut. The first user of a call
    may have all of its traffic: that is the user who burns it. :data:`FEW` users may be paced
    beyond the shares; of those who are refused, now or later, the shares hold.
    """
    if not draft.holds_up:
        return None
    user = frozenset({draft.key.user or ""})
    if len(_users(occupancy.held_up) | user) > caps.users(occupancy.active_users, FEW):
        return Reason.TOO_MANY_USERS
    if draft.refuses:
        if len(_users(occupancy.refused) | user) > caps.users(occupancy.active_users):
            return Reason.TOO_MANY_USERS
        if _is_too_much(occupancy.refused, draft, caps, 1):
            return Reason.TOO_MUCH_TRAFFIC
    is_too_much = _is_too_much(occupancy.held_up, draft, caps, FEW)
    return Reason.TOO_MUCH_TRAFFIC if is_too_much else None


def _users(calls: Calls) -> frozenset[str]:
    return frozenset().union(*(held.users for held in calls.values()))


def _is_too_much(calls: Calls, draft: Draft, caps: Caps, least: int) -> bool:
    """Whether more of the call's traffic would be held than may be, and of more than few users."""
    held = calls.get(call_of(draft.key), Held())
    return len(held.users) >= least and held.traffic + draft.traffic > caps.traffic_share


def call_of(key: CallKey) -> tuple[str, str, str]:
    """What a cap on traffic is about: a call, whoever makes it."""
    return (key.tenant, key.service, key.call)


class Place(NamedTuple):
    """What one entry of a rule takes up.

    Attributes:
        key: of the entry.
        heat: of its user there, as :attr:`Draft.heat`.
        traffic: its user's part of the call's calls.
        refuses: the calls are refused, and not slowed.
    """

    key: CallKey
    heat: float
    traffic: float = 0.0
    refuses: bool = True


def held_of(places: Iterable[Place]) -> Calls:
    """What entries hold up, by call."""
    found: dict[tuple[str, str, str], Held] = {}
    for place in places:
        users, traffic = found.get(call_of(place.key), Held())
        users |= {place.key.user or ""}
        found[call_of(place.key)] = Held(users, traffic + place.traffic)
    return found


def leaving_for(
    draft: Draft, places: Iterable[Place], occupancy: Occupancy, caps: Caps
) -> tuple[CallKey, ...]:
    """Which entries make room for a rule's new one, so that the hottest users are those cut.

    Else whoever is cut first would keep a hotter user in for as long as the entry is held.

    Args:
        draft: what is asked for.
        places: all entries that rules hold.
        occupancy: what is held.
        caps: what may be.

    Returns:
        The keys of the coolest users' entries, as few users as will do; none where the caps allow
        the draft anyhow, or no room can be made by users that are cool enough.
    """
    of_user: dict[str | None, list[Place]] = {}
    for place in places:
        of_user.setdefault(place.key.user, []).append(place)
    of_user.pop(draft.key.user, None)
    heats = sorted((max(one.heat for one in rows), user or "") for user, rows in of_user.items())
    leaving: list[CallKey] = []
    gone: set[str] = set()
    for heat, user in heats:
        if cap(draft, occupancy, caps) is None:
            break
        if draft.by_human or draft.heat < HOTTER * heat or not draft.heat:
            return ()
        leaving += [one.key for one in of_user[user]]
        gone.add(user)
        staying = [place for one in heats if one[1] not in gone for place in of_user[one[1]]]
        occupancy = replace(
            occupancy,
            entries=occupancy.entries - len(of_user[user]),
            held_up=held_of(staying),
            refused=held_of(place for place in staying if place.refuses),
        )
    return tuple(leaving) if cap(draft, occupancy, caps) is None else ()
