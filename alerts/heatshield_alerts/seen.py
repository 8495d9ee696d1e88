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
        lasting: those of them whose harm lasts though it was acted on, each with why, as a
            sentence.
        rules: the rules that were evaluated without failure, the last time they were due; ``None``:
            all of them.
        active_users: users seen lately; ``None``: not known.
    """

    loads: Mapping[CallKey, float] = field(default_factory=dict)
    harming: Collection[CallKey] = ()
    lasting: Mapping[CallKey, str] = field(default_factory=dict)
    rules: Collection[str] | None = None
    active_users: int | None = None

    def lasting_of(self, key: CallKey) -> str | None:
        """Why a user's calls may be refused: the harm that they do lasts, as a sentence.

        Returns:
            ``None``: it doesn't last, or the user is one of a crowd that does it.
        """
        why = self.lasting.get(key)
        if why is None or self.active_users is None:
            return why
        culprits = sum((one.service, one.call) == (key.service, key.call) for one in self.harming)
        return why if culprits <= crowd_of(self.active_users) else None
