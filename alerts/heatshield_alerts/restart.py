"""What was held when the collector ended, to be held on by the next.

Clients of an ended collector enforce until their leases end. A new one begins at a higher epoch. If
it held nothing, its first snapshot would let in the users that still burn the platform, and as
long as its baseline is young no rule could trip them again. So what each key holds is kept as it
changes, beside the audit, from whose records it follows.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from heatshield.call_key import CallKey
from heatshield.contract import DEFAULT_LEASE_MS, MAX_LEASE_MS, BreakerEntry, ContractError
from heatshield_alerts.breaker_changes import ChangeKind
from heatshield_alerts.control_state import KeptControl

__all__ = ["HeldEntry", "held_after", "kept_entries"]

_GRANTS: Final = frozenset({ChangeKind.OPENED.value, ChangeKind.RENEWED.value})
_ENDS: Final = frozenset({ChangeKind.CLOSED.value, ChangeKind.CLEARED.value})


class HeldEntry(NamedTuple):
    """An entry as it was granted last.

    Attributes:
        entry: its JSON, and ``hold_ms``: for how long it is held from ``at_ns``.
        at_ns: when it was granted or renewed, nanoseconds since the Unix epoch.
    """

    entry: str
    at_ns: int


def held_after(audit: Iterable[Mapping[str, Any]]) -> dict[CallKey, HeldEntry | None]:
    """What the keys that these audit records change hold after them.

    Args:
        audit: rows with ``at_ns``, ``change`` and ``entry`` (JSON), in their order.

    Returns:
        By key, and not by the entry's id, which a restart changes: the entry that is held, or
        ``None`` where it ended. Keys of other changes and of rows that can't be read are left out.
    """
    held: dict[CallKey, HeldEntry | None] = {}
    for row in audit:
        ends = row["change"] in _ENDS
        if not ends and row["change"] not in _GRANTS:
            continue
        entry = _entry(row["entry"])
        if entry is not None:
            held[entry.key] = None if ends else HeldEntry(row["entry"], row["at_ns"])
    return held


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
