"""What changed in the breaker state: records for the audit, and deltas for the clients."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from heatshield.contract import BreakerEntry, DeclaredLimit, Delta, PlatformMode, StateVersion
from heatshield_alerts.breaker_states import BreakerEvent, BreakerState
from heatshield_alerts.draft import Reason

__all__ = ["HISTORY", "Change", "ChangeKind", "History", "no_such_entry", "refused", "restored"]

HISTORY: Final = 512
"""Versions a client may lie behind and still be served a delta: at the cap of 20 new entries a
minute, each opened, half-opened and closed, some 8 minutes. Further back it gets a snapshot."""


class ChangeKind(StrEnum):
    """What happened to an entry, in the words of ``/api/events``."""

    OPENED = "opened"
    RENEWED = "renewed"
    """Held longer; when nothing that clients see changed, neither a version nor an audit record."""
    RESTORED = "restored"
    """Held on after a restart; it ends when it would have ended without."""
    ESCALATED = "escalated"
    """Refused from now on, as the first step did not end it."""
    HALF_OPEN = "half_open"
    CLOSED = "closed"
    CLEARED = "cleared"
    REFUSED = "refused"
    MODE = "mode"
    """The platform's mode, no entry."""
    LIMITS = "limits"
    """The declared limits, no entry."""
    POLICY = "policy"
    """What the policy file says, no entry."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decision on the breaker state: an audit record by itself.

    Attributes:
        kind: what happened.
        at: the version after it.
        at_s: when, on the clock the registry is driven by.
        entry: as it is after the change, or was when it ended. When refused: what was asked for,
            with an empty id, or ``None`` when there was no such entry.
        before: the breaker's state before.
        after: and after.
        event: what moved it; ``None`` when nothing moved.
        by: who asked: ``rule:...``, ``human:...`` or ``heatshield`` itself.
        text: why, for people.
        reason: why it was refused.
        is_visible: whether clients see it: there is a new version.
        is_recorded: whether the audit has it. Refusals that repeat are recorded once in a while.
        hold_s: for how long the entry is held from now on, unless it is asked for again.
        is_kept: it changes nothing but from when the entry is held; a restart needs to know.
    """

    kind: ChangeKind
    at: StateVersion
    at_s: float
    entry: BreakerEntry | None = None
    before: BreakerState = BreakerState.CLOSED
    after: BreakerState = BreakerState.CLOSED
    event: BreakerEvent | None = None
    by: str = "heatshield"
    text: str = ""
    reason: Reason | None = None
    is_visible: bool = True
    is_recorded: bool = True
    hold_s: float | None = None
    is_kept: bool = False

    def to_json(self) -> dict[str, Any]:
        """As ``/api/events`` tells it and the audit keeps it; the time is the caller's to add."""
        return {
            "change": self.kind.value,
            "entry": self._entry_json(),
            "version": str(self.at),
            "before": self.before.value,
            "after": self.after.value,
            "by": self.by,
            "text": self.text,
            "reason": self.reason.name.lower() if self.reason else None,
        }

    def _entry_json(self) -> dict[str, Any] | None:
        if self.entry is None:
            return None
        hold_ms = {} if self.hold_s is None else {"hold_ms": round(self.hold_s * 1_000)}
        return {**asdict(self.entry), **hold_ms}


def refused(entry: BreakerEntry, reason: Reason, at: StateVersion, now: float) -> Change:
    """That an entry is not granted; clients see nothing of it."""
    return Change(
        ChangeKind.REFUSED,
        at,
        now,
        entry=entry,
        by=entry.issuer,
        text=str(reason),
        reason=reason,
        is_visible=False,
    )


def restored(entry: BreakerEntry, at: StateVersion, now: float) -> Change:
    """That what an earlier process held is held on."""
    return Change(
        ChangeKind.RESTORED,
        at,
        now,
        event=BreakerEvent.TRIP,
        by=entry.issuer,
        text=entry.reason,
    )


def no_such_entry(entry_id: str, by: str, at: StateVersion, now: float) -> Change:
    """That a person wants to clear what is not held."""
    return Change(
        ChangeKind.REFUSED,
        at,
        now,
        by=by,
        text=f"{entry_id} is not held",
        reason=Reason.NO_SUCH_ENTRY,
        is_visible=False,
    )


@dataclass(frozen=True, slots=True)
class _Touch:
    version: int
    entry_id: str | None
    is_new: bool
    limits: bool


class History:
    """Which entries each of the last versions touched."""

    def __init__(self) -> None:
        self._touches: deque[_Touch] = deque(maxlen=HISTORY)

    def note(
        self, version: int, entry_id: str | None, *, is_new: bool = False, limits: bool = False
    ) -> None:
        """Version ``version`` touched this entry; ``None``: only the mode or the limits."""
        self._touches.append(_Touch(version, entry_id, is_new, limits))

    def copy(self) -> "History":
        """The same, which notes no further version."""
        made = History()
        made._touches = self._touches.copy()
        return made

    def delta(
        self,
        base: StateVersion,
        at: StateVersion,
        mode: PlatformMode,
        entries: Mapping[str, BreakerEntry],
        limits: tuple[DeclaredLimit, ...] = (),
    ) -> Delta | None:
        """What leads from ``base`` to ``at``, where ``entries`` are held and ``limits`` declared.

        Returns:
            ``None`` if ``base`` is of another epoch, not in the past, or forgotten.
        """
        if base.epoch != at.epoch or base >= at:
            return None
        since = [touch for touch in self._touches if touch.version > base.version]
        if len(since) != at.version - base.version:
            return None
        made = {touch.entry_id for touch in since if touch.is_new}
        touched = dict.fromkeys(touch.entry_id for touch in since if touch.entry_id is not None)
        upsert = tuple(entries[name] for name in touched if name in entries)
        remove = tuple(name for name in touched if name not in entries and name not in made)
        changed = limits if any(touch.limits for touch in since) else None
        return Delta(base, at, mode, upsert, remove, changed)
