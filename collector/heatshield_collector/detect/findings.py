"""What a detector says, as it travels to alerts, to the journal and to people."""

from dataclasses import dataclass, field

from heatshield.call_key import CallKey

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A user on a call that stands out.

    Attributes:
        klass: the detector's word for it: ``hot`` (may trip), ``heavy`` (is only reported).
        key: the user, the service and the call; the user is known.
        cost: the cost it is about.
        window: the window that showed it.
        load: lower bound of that load, cost per second, not clipped.
        baseline: upper bound of the user's own load there over the five minutes before.
        reason: one sentence for people.
        trace_ids: hexadecimal, the costliest request first.
    """

    klass: str
    key: CallKey
    cost: str
    window: str
    load: float
    baseline: float
    reason: str
    trace_ids: list[str] = field(default_factory=list)
