"""What is looked at: one user on one resource, and resources on which many fare badly."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from heatshield_collector.detect.harm.recent import Floats
from heatshield_collector.detect.harm.rule import Seen

__all__ = ["CALL_PART", "Case", "Crowded", "Part", "most_of"]

CALL_PART: Final = 0.25
"""Part of the user's service time on a resource from which on a call is named."""


@dataclass(frozen=True, slots=True)
class Case:
    """One user on one resource.

    Attributes:
        resource: what it is, for people.
        kind: ``backend`` or ``process``.
        user: the user's number.
        calls: the user's service seconds by number of the call.
        seen: for the rule.
        requests: of the user, on any resource, that ended or ran in the last two seconds.
        processes: that it is about; none, on a backend.
        who: numbers of the harmed users, the most harmed first.
        where: numbers of the harmed calls, the most harmed first.
    """

    resource: str
    kind: str
    user: int
    calls: dict[int, float]
    seen: Seen
    requests: int = 0
    processes: tuple[int, ...] = ()
    who: tuple[int, ...] = ()
    where: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Crowded:
    """A resource on which so many fare badly, whoever is the cause.

    Attributes:
        resource: what it is, for people.
        kind: ``backend`` or ``process``.
        number: of the backend; -1 for a service.
        requests: in the window, of all users.
        harmed: those that are slow.
        where: numbers of the harmed calls, the most harmed first.
    """

    resource: str
    kind: str
    number: int
    requests: int
    harmed: int
    where: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What users have of a resource: a row a piece of work."""

    user: Floats
    call: Floats
    request: Floats
    service_s: Floats

    def by_user(self) -> dict[int, float]:
        """Service seconds by user."""
        users, of_row = np.unique(self.user, return_inverse=True)
        spent = np.bincount(of_row, weights=self.service_s)
        return {int(user): float(one) for user, one in zip(users, spent, strict=True)}

    def of(self, user: int) -> "Part":
        """The rows of one user."""
        here = self.user == user
        return Part(self.user[here], self.call[here], self.request[here], self.service_s[here])

    def calls(self) -> dict[int, float]:
        """Service seconds by call."""
        calls, of_row = np.unique(self.call, return_inverse=True)
        spent = np.bincount(of_row, weights=self.service_s)
        return {int(call): float(one) for call, one in zip(calls, spent, strict=True)}

    def clipped(self, most_s: float) -> float:
        """Their service seconds, no request counting more than ``most_s``."""
        _, of_row = np.unique(self.request, return_inverse=True)
        return float(np.minimum(np.bincount(of_row, weights=self.service_s), most_s).sum())


def most_of(numbers: Floats, weights: Floats, most: int = 10) -> tuple[int, ...]:
    """The numbers with the largest sums of weights, the largest first."""
    if not len(numbers):
        return ()
    unique, of_row = np.unique(numbers, return_inverse=True)
    sums = np.bincount(of_row, weights=weights)
    order = np.lexsort((unique, -sums))[:most]
    return tuple(int(unique[at]) for at in order if unique[at] >= 0)
