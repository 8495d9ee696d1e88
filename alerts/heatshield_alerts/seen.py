"""What a round of evaluation saw, as far as breakers that are held depend on it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from heatshield.call_key import CallKey

__all__ = ["Seen", "crowd_of"]

MOST_CULPRITS: Final = 10
"""Users who burn one call at once, each by a fault of their own; more are a crowd on any
platform."""

CULPRITS_PART: Final = 0.1
"""Of the active users, where there are few."""

FEWEST: Final = 2


def crowd_of(active_users: int) -> int:
    """How many users may harm others on one call at once before it is a crowd.

    Where all come at once, or a call has become slow for all, the load of each is no doing of
    theirs, and the one with the most is as innocent as the others.
    """
    return max(FEWEST, min(MOST_CULPRITS, int(CULPRITS_PART * active_users)))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round saw.

    Attributes:
        loads: the admitted load of each key, in the unit of the draft's threshold; a key that is
            not in it has none.
        harming: the keys of the users that detection finds to harm others.
        lasting: those of them whose harm lasts though it was acted on.
        rules: the rules that were evaluated without failure, the last time they were due; ``None``:
            all of them.
        active_users: users seen lately; ``None``: not known.
    """

    loads: Mapping[CallKey, float] = field(default_factory=dict)
    harming: Collection[CallKey] = ()
    lasting: Collection[CallKey] = ()
    rules: Collection[str] | None = None
    active_users: int | None = None

    def insists(self, key: CallKey) -> bool:
        """Whether the harm that a user does on a call lasts, and the user is none of a crowd."""
        if key not in self.lasting:
            return False
        if self.active_users is None:
            return True
        culprits = sum(one[2:] == key[2:] for one in self.harming)
        return culprits <= crowd_of(self.active_users)
