"""Enforcement at the caller: a tripped user's request to another service does not even travel.

A caller can't know the service, and the call, behind an address; entries name both. It learns them
from refusals. A service that refuses a call before its handler, by an entry for just that call,
says so (``heatshield-breaker-at: call``). Where the caller holds that entry, for the user that acts
here, and the entry's call matches the request that was sent, the call is known to live at that
address. The next request to the same place is refused here, as long as the user's entry for that
call is granted to this process, too; nothing else ever is.

A place is method, address and path. In a path, numbers and UUIDs may differ, as they do in routes
with parameters; every other word has to be the same, because ``/users/me`` may be another route
than ``/users/{id}``. What was learned is forgotten after :data:`LEARNED_S`: then one request
travels, and the service decides again.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.route_match import matches
from heatshield.clock import Clock
from heatshield.context.request import request_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_locks import lock
from heatshield.names import AT_CALL, BREAKER_AT_HEADER, BREAKER_HEADER
from heatshield.rejection import BreakerOpen, Headers

__all__ = ["CALLER_GATE", "LEARNED_S", "MAX_PLACES", "CallerGate", "Place", "acting_user"]

LEARNED_S: Final = 5.0
"""Seconds for which a refusal shows where a call lives. Short, so that a service that refuses no
more, by its own kill switch for instance, or that has moved, is asked again soon."""

MAX_PLACES: Final = 1_000
"""Places known at once; the one that was learned first goes first. As many as entries are held."""

_VARIES: Final = re.compile(
    r"(?<=/)(?:[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?=/|$)"
)


class Place(NamedTuple):
    """Where a request goes.

    Attributes:
        address: host and port, or a channel's target.
        method: of HTTP; ``POST`` over gRPC.
        path: without its query, as it is sent.
    """

    address: str
    method: str
    path: str

    @property
    def shape(self) -> "Place":
        """The place with what varies among the paths of a route left out."""
        return self._replace(path=_VARIES.sub("#", self.path))


class _Known(NamedTuple):
    service: str
    call: str
    until_s: float


class CallerGate:
    """Asks the table that is installed about outgoing calls; without one every call travels."""

    def __init__(self) -> None:
        self._table: BreakerTable | None = None
        self._monotonic: Callable[[], float] = float
        self._lock = lock()
        self._known: dict[Place, _Known] = {}

    def install(self, table: BreakerTable, clock: Clock) -> None:
        """Enforce ``table`` from now on, at places that are learned from now on."""
        self._known = {}
        self._monotonic = clock.monotonic
        self._table = table

    def remove(self) -> None:
        """Let everything travel from now on."""
        self._table = None

    @property
    def idle(self) -> bool:
        """Whether nothing is refused to anybody anywhere; then no place has to be told."""
        table = self._table
        return table is None or not table.rejecting

    def refusal(self, place: Place | None) -> BreakerOpen | None:
        """The rejection of a call that is about to be made; ``None`` lets it travel.

        Never raises: an error in here lets the call travel.
        """
        if place is None or not self._known:
            return None
        try:
            return self._ask(place)
        except Exception:  # noqa: BLE001  # fail open, invariant 13
            COUNTERS.error("caller gate")
            return None

    def _ask(self, place: Place) -> BreakerOpen | None:
        table, user, known = self._table, acting_user(), self._known.get(place.shape)
        if table is None or user is None or known is None:
            return None
        now = self._monotonic()
        if now >= known.until_s or not matches(known.call, place.method, place.path):
            return None
        decision = table.decide_for(known.service, user, known.call, now)
        if decision.allowed or decision.entry is None:
            return None
        return BreakerOpen(decision.entry.id, decision.retry_after_s)

    @fail_open("caller gate", None)
    def learn(
        self, place: Place | None, marks: Headers | Mapping[str, str], user: str | None = None
    ) -> None:
        """A call has come back refused.

        Args:
            place: where it went.
            marks: headers of the answer, or trailing metadata, whatever they say.
            user: for whom it was made, if not the one who acts here.
        """
        table = self._table
        if place is None or table is None or marks.get(BREAKER_AT_HEADER) != AT_CALL:
            return
        user, entry_id = user or acting_user(), marks.get(BREAKER_HEADER)
        held = (one for one in table.rejecting.values() if one.id == entry_id and one.user == user)
        entry = next(held, None)
        if entry is None or not matches(entry.call, place.method, place.path):
            return
        known = _Known(entry.service, entry.call, self._monotonic() + LEARNED_S)
        with self._lock:
            self._known.pop(place.shape, None)  # and in again at the end: the dict is by age
            self._known[place.shape] = known
            if len(self._known) > MAX_PLACES:
                del self._known[next(iter(self._known))]


def acting_user() -> str | None:
    """The user for whom the current request runs, as entries name users."""
    request = request_in()
    return None if request is None else request.user


CALLER_GATE: Final = CallerGate()
"""This process's."""
