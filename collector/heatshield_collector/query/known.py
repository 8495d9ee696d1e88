"""Whether anything has ever reported a user, a service and a call, and what is written most alike.

A breaker around a name that nothing sends cuts no user, and looks as if it did.
"""

import difflib
import heapq
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from heatshield.identity.wire_id import wire_id
from heatshield_collector.query.requests import AHEAD_NS
from heatshield_collector.store.protocol import RequestQuery, TelemetryStore

__all__ = ["MOST_COMPARED", "Known", "Name", "known"]

MOST_COMPARED: Final = 2_000
"""Names of which the nearest is looked for: nothing can end the comparison, a few tenths of a
second for so many."""

_CALL_KINDS: Final = frozenset({0, 1, 2, 5})
"""OTLP's SpanKinds of what opens a call: servers, consumers, and guards, which are internal."""


@dataclass(frozen=True, slots=True)
class Name:
    """Whether a name is known; if not, the known one that is written most alike, if any is.

    Attributes:
        known: whether a stored span has it.
        near: the known name nearest to it, however far; null if it is known or none is. Of more
            than ``MOST_COMPARED`` names, those whose lengths are nearest are compared.
    """

    known: bool
    near: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a key: its user, its service, and its call on that service."""

    user: Name
    service: Name
    call: Name


def known(
    store: TelemetryStore,
    user: str,
    service: str,
    call: str,
    *,
    now_ns: int,
) -> Known:
    """Look the names of a key up in all that is stored.

    Args:
        store: has the spans.
        user: of the key.
        service: of the key.
        call: of the key; it is looked for among the calls of ``service`` alone.
        now_ns: the time, nanoseconds since the Unix epoch.
    """
    until_ns = now_ns + AHEAD_NS
    calls = {one.name for one in store.operations(service, 0, until_ns) if one.kind in _CALL_KINDS}
    return Known(
        _user(store, wire_id(user), until_ns),
        _name(service, store.services(0, until_ns)),
        _name(call, calls),
    )


def _user(store: TelemetryStore, user: str, until_ns: int) -> Name:
    if store.requests(RequestQuery(0, until_ns, user=user, limit=1)):
        return Name(True, None)
    return _name(user, store.users_like(user, limit=1))


def _name(wanted: str, names: Collection[str]) -> Name:
    if wanted in names or wire_id(wanted) in map(wire_id, names):  # spans hold names as they came
        return Name(True, None)
    wanted = wire_id(wanted)  # short, however long it was
    alike = heapq.nsmallest(
        MOST_COMPARED, names, key=lambda one: (abs(len(one) - len(wanted)), one)
    )
    near = difflib.get_close_matches(wanted, sorted(alike), n=1, cutoff=0.0)
    return Name(False, near[0] if near else None)
