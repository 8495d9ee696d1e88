"""What a detector says, as it travels to alerts, to the journal and to people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from heatshield.call_key import CallKey

__all__ = ["CLASSES", "Action", "Finding", "FindingClass", "Victims"]

FindingClass = Literal["heavy", "hot", "harmful", "budget", "overload"]
"""What a finding means:

- ``heavy``: a large share of all busy time; worth a look.
- ``hot``: burns, and unusually; nobody is harmed. Told to people, never cut.
- ``harmful``: burns, others are harmed, and the burning is what harms them. May trip.
- ``budget``: over an operator's absolute limit.
- ``overload``: others are harmed and no user is the cause. Told to people, nobody is cut.
"""

CLASSES: Final = ("heavy", "hot", "harmful", "budget", "overload")

Action = Literal["none", "pace", "reject"]
"""What a finding suggests to do."""


@dataclass(frozen=True, slots=True)
class Victims:
    """Who suffers, and how: others than the culprit on the contended resource.

    Attributes:
        requests: of others, ended or still open, in the window.
        harmed: how many of them were slower than is usual for their calls.
        users: about how many different users they are of.
        worst_users: up to ten of those users, the most harmed first.
        calls: up to ten ``service call`` texts, the most harmed first.
        callers: services that call them, as far as that is known.
        usual_p95_ms: of these requests before.
        p95_ms: of these requests now.
        usual_errors: share of them that failed before, 0 to 1.
        errors: share of them that fail now.
    """

    requests: int = 0
    harmed: int = 0
    users: int = 0
    worst_users: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    usual_p95_ms: float = 0.0
    p95_ms: float = 0.0
    usual_errors: float = 0.0
    errors: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """A user on a call that stands out; or, of class ``overload``, a resource.

    Attributes:
        klass: what it means.
        key: the user, the service and the call. The user is known, but for ``overload``, where the
            service and the call are those that are harmed most.
        cost: the cost it is about.
        window: the window that showed it.
        load: lower bound of that load, cost per second, not clipped.
        baseline: upper bound of the user's own load there over the five minutes before.
        reason: one sentence for people.
        trace_ids: hexadecimal, up to three: the worst, a typical and the latest request.
        action: what it suggests now.
        resource: what is contended: a backend, or an instance of a service; empty: none is.
        figures: what was measured, by name; of a bound the name ends in ``_low`` or ``_high``.
        thresholds: what the figures were compared with, by name.
        victims: who suffers; ``None``: nobody.
    """

    klass: str
    key: CallKey
    cost: str
    window: str
    load: float
    baseline: float
    reason: str
    trace_ids: list[str] = field(default_factory=list)
    action: Action = "none"
    resource: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    victims: Victims | None = None
