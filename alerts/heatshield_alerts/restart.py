"""What older versions left of what breakers held, to be held on by this one.

They kept an entry for each key in a table of the store. What this version keeps, and why, stands in
:mod:`heatshield_alerts.control_state`.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from heatshield.contract import DEFAULT_LEASE_MS, MAX_LEASE_MS, BreakerEntry, ContractError
from heatshield_alerts.control_state import KeptControl

__all__ = ["HeldEntry", "kept_entries"]


class HeldEntry(NamedTuple):
    """An entry as it was granted last.

    Attributes:
        entry: its JSON, and ``hold_ms``: for how long it is held from ``at_ns``.
        at_ns: when it was granted or renewed, nanoseconds since the Unix epoch.
    """

    entry: str
    at_ns: int


def kept_entries(held: Iterable[HeldEntry]) -> KeptControl:
    """The entries that an older version kept; what can't be read is left out."""
    rows = []
    for one in held:
        entry = _entry(one.entry)
        if entry is not None:
            rows.append((json.loads(one.entry), one.at_ns, _hold_ms(entry, one.entry)))
    return KeptControl.of_entries(rows)


def _entry(text: str) -> BreakerEntry | None:
    try:
        return BreakerEntry.from_json(json.loads(text))
    except (ContractError, ValueError):
        return None


def _hold_ms(entry: BreakerEntry, text: str) -> int:
    """For how long it is held. Records of older versions don't say; only a person's lease does."""
    said = json.loads(text).get("hold_ms")
    if isinstance(said, int) and 0 < said <= MAX_LEASE_MS:
        return said
    by_human = entry.issuer.startswith("human:") and entry.lease_ms != DEFAULT_LEASE_MS
    return entry.lease_ms if by_human else MAX_LEASE_MS
