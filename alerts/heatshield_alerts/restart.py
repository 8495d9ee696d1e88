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
from heatshield.contract import MAX_LEASE_MS, BreakerEntry, ContractError
from heatshield_alerts.breaker_changes import ChangeKind
from heatshield_alerts.draft import Draft

__all__ = ["HeldEntry", "held_after", "held_drafts"]

_GRANTS: Final = frozenset({ChangeKind.OPENED.value, ChangeKind.RENEWED.value})
_ENDS: Final = frozenset({ChangeKind.CLOSED.value, ChangeKind.CLEARED.value})


class HeldEntry(NamedTuple):
    """An entry as it was granted last.

    Attributes:
        entry: its JSON.
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


def held_drafts(held: Iterable[HeldEntry], now_ns: int) -> list[Draft]:
    """The entries that were held when a collector ended, as drafts for a new registry.

    Args:
        held: as they were kept.
        now_ns: nanoseconds since the Unix epoch. What was granted longer ago than the ceiling of 15
            minutes has ended by now; what can't be read is left out.
    """
    entries = ((_entry(one.entry), one.at_ns) for one in held)
    drafts = (_draft(entry, now_ns - at_ns) for entry, at_ns in entries if entry is not None)
    return [draft for draft in drafts if draft is not None]


def _entry(text: str) -> BreakerEntry | None:
    try:
        return BreakerEntry.from_json(json.loads(text))
    except (ContractError, ValueError):
        return None


def _draft(entry: BreakerEntry, age_ns: int) -> Draft | None:
    left_ms = MAX_LEASE_MS - age_ns // 1_000_000
    if not 0 < left_ms <= MAX_LEASE_MS:
        return None
    by_human = entry.issuer.startswith("human:")
    return Draft(
        key=entry.key,
        issuer=entry.issuer,
        mode=entry.mode,
        lease_ms=left_ms if by_human else None,
        rate_per_s=entry.rate_per_s,
        reason=entry.reason,
        evidence=entry.evidence,
        threshold=_number(entry.evidence.get("threshold")),
        cost_per_call=_number(entry.evidence.get("cost_per_call")),
        load=_number(entry.evidence.get("load")),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
