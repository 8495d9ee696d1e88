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
from heatshield_alerts.draft import Draft
from heatshield_alerts.held_breaker import hold_s

__all__ = ["HeldDraft", "HeldEntry", "held_after", "held_drafts"]

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


class HeldDraft(NamedTuple):
    """An entry to be held on.

    Attributes:
        draft: as it was asked for.
        age_s: of the time that such a draft is held for, the seconds that have passed.
    """

    draft: Draft
    age_s: float


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


def held_drafts(held: Iterable[HeldEntry], now_ns: int) -> list[HeldDraft]:
    """The entries that were held when a collector ended, as drafts for a new registry.

    Args:
        held: as they were kept.
        now_ns: nanoseconds since the Unix epoch. What was granted longer ago than it is held for
            has ended by now; what can't be read is left out. What seems to be granted in the
            future, because the wall clock was set back, was granted now.
    """
    drafts = []
    for one in held:
        entry = _entry(one.entry)
        if entry is None:
            continue
        hold_ms = _hold_ms(entry, one.entry)
        left_s = hold_ms / 1e3 - max(0, now_ns - one.at_ns) / 1e9
        if left_s > 0:
            draft = _draft(entry, hold_ms)
            drafts.append(HeldDraft(draft, hold_s(draft) - left_s))
    return drafts


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


def _draft(entry: BreakerEntry, hold_ms: int) -> Draft:
    """The draft it was; a lease was given if it is held no longer than clients may enforce it."""
    by_human = entry.issuer.startswith("human:")
    return Draft(
        key=entry.key,
        issuer=entry.issuer,
        mode=entry.mode,
        lease_ms=entry.lease_ms if by_human and hold_ms <= entry.lease_ms else None,
        rate_per_s=entry.rate_per_s,
        reason=entry.reason,
        evidence=entry.evidence,
        threshold=_number(entry.evidence.get("threshold")),
        cost_per_call=_number(entry.evidence.get("cost_per_call")),
        # The alert's own value may be of another unit, such as elements a second.
        load=_number(entry.evidence.get("busy_load")),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
