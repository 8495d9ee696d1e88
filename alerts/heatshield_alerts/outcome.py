"""What is done about a user whom an alert names, as people are told."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Outcome", "OutcomeKind"]


class OutcomeKind(StrEnum):
    """The same in a word or two, for titles."""

    CUT = "cut"
    PACED = "paced"
    FLAGGED = "flagged"
    SHADOW = "shadow"
    """A breaker is held, and the platform enforces none."""
    NOT_CUT = "not cut"
    """The policy refused the breaker."""
    WAITING = "waiting"
    """The cold start lasts."""

    @property
    def acts(self) -> bool:
        """Whether services do something to the user's calls."""
        return self in (OutcomeKind.CUT, OutcomeKind.PACED, OutcomeKind.FLAGGED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is done.

    Attributes:
        kind: in a word.
        text: in a sentence, with the reason.
    """

    kind: OutcomeKind
    text: str
