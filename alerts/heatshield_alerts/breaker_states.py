"""The life of a breaker: a table of states.

Theory of operation
===================

A breaker stands for one key, (user, service, call). Its state is derived at one place, the
collector; clients only hold what they were last granted, for its lease.

- ``CLOSED``: nothing is held; there is no entry. Every key that was never asked for is here.
- ``OPEN``: an entry is granted. Its user is slowed to a fair share of that call, or refused.
- ``HALF_OPEN``: the entry is still granted, but for a few probes at one instance, to see whether
  the load is really gone.

and it moves on

- ``TRIP``: a rule's alert or a person asked for it. In ``OPEN`` that is a renewal.
- ``ESCALATED``: the ladder's first step did not end it within two seconds; its user is refused
  from now on.
- ``COOLED``: demand stayed below a third of the trip threshold for 10 s; longer, where the key
  opened often lately.
- ``EASED``: demand stayed low for 10 s, and the key is held on because it opened often lately; a
  user who was refused is slowed from now on, as on the ladder's first step.
- ``HEATED``: demand reached the trip threshold again under the probes.
- ``CLEAN``: demand stayed low under the probes; it was over.
- ``LAPSED``: held as long as it may be without anybody asking again.
- ``CLEARED``: a person took it away.
- ``DISPLACED``: it made room for a hotter user, as a cap was reached.

*Demand*, not load, decides: an open breaker erases its own evidence, since a user who is refused
puts no load on anything. Demand is the load admitted plus what the rejected calls would have cost.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = ["TRANSITIONS", "BreakerEvent", "BreakerState"]


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerEvent(StrEnum):
    """What moves it."""

    TRIP = "trip"
    ESCALATED = "escalated"
    EASED = "eased"
    COOLED = "cooled"
    HEATED = "heated"
    CLEAN = "clean"
    LAPSED = "lapsed"
    CLEARED = "cleared"
    DISPLACED = "displaced"


TRANSITIONS: Final[Mapping[BreakerState, Mapping[BreakerEvent, BreakerState]]] = {
    BreakerState.CLOSED: {BreakerEvent.TRIP: BreakerState.OPEN},
    BreakerState.OPEN: {
        BreakerEvent.TRIP: BreakerState.OPEN,
        BreakerEvent.ESCALATED: BreakerState.OPEN,
        BreakerEvent.EASED: BreakerState.OPEN,
        BreakerEvent.COOLED: BreakerState.HALF_OPEN,
        BreakerEvent.LAPSED: BreakerState.CLOSED,
        BreakerEvent.CLEARED: BreakerState.CLOSED,
        BreakerEvent.DISPLACED: BreakerState.CLOSED,
    },
    BreakerState.HALF_OPEN: {
        BreakerEvent.TRIP: BreakerState.OPEN,
        BreakerEvent.HEATED: BreakerState.OPEN,
        BreakerEvent.CLEAN: BreakerState.CLOSED,
        BreakerEvent.LAPSED: BreakerState.CLOSED,
        BreakerEvent.CLEARED: BreakerState.CLOSED,
        BreakerEvent.DISPLACED: BreakerState.CLOSED,
    },
}
