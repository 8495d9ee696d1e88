"""What was held when the collector ended: read from its audit, to be held on.

Clients of an ended collector enforce until their leases end. A new one begins at a higher epoch. If
it held nothing, its first snapshot would let in the users that still burn the platform, and as
long as its baseline is young no rule could trip them again.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from heatshield.call_key import CallKey
from heatshield.contract import MAX_LEASE_MS, BreakerEntry, ContractError
from heatshield_alerts.breaker_changes import ChangeKind
from heatshield_alerts.draft import Draft

__all__ = ["AUDIT_ROWS", "held_drafts"]

AUDIT_ROWS: Final = 1_000
"""Newest audit records that are looked at: at the most changes that the caps allow, 15 minutes."""

_GRANTS: Final = frozenset({ChangeKind.OPENED.value, ChangeKind.RENEWED.value})
_ENDS: Final = frozenset({ChangeKind.CLOSED.value, ChangeKind.CLEARED.value})


def held_drafts(audit: Iterable[Mapping[str, Any]], now_ns: int) -> list[Draft]:
    """The entries that were open at the end of an audit, as drafts for a new registry.

    Args:
        audit: rows with ``at_ns``, ``change``, ``entry_id`` and ``entry`` (JSON), in any order.
        now_ns: nanoseconds since the Unix epoch. What was granted longer ago than the ceiling of 15
            minutes has ended by now, and a row that can't be read is left out.
    """
    held: dict[CallKey, tuple[int, BreakerEntry]] = {}
    for row in sorted(audit, key=lambda row: row["at_ns"]):
        entry = _entry(row["entry"])
        if entry is None:
            continue
        # By what is cut, not by the entry's id: an earlier restart gave it another.
        if row["change"] in _GRANTS:
            held[entry.key] = (row["at_ns"], entry)
        elif row["change"] in _ENDS:
            held.pop(entry.key, None)
    drafts = (_draft(entry, now_ns - at_ns) for at_ns, entry in held.values())
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
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
