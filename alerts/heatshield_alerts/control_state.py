"""What a collector holds, as JSON that the next one holds on exactly.

Clients of an ended collector enforce until their leases end. A new one begins at a higher epoch. If
it held nothing, its first snapshot would let in the users that still burn the platform, and as
long as its baseline is young no rule could trip them again. So all that breaker control holds is
kept before anybody is told of it: entries, since when, where on the ladder; moves and hold-downs,
so that nothing that a person cleared comes back.

Moments are kept as nanoseconds since the Unix epoch. One that seems to lie in the future, because
the wall clock was set back, is now. How long demand has been low goes on without the time in which
nothing was observed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, Self

from heatshield.clock import Instant
from heatshield.contract import BreakerEntry, BreakerMode, ContractError
from heatshield_alerts.breaker_states import BreakerState
from heatshield_alerts.demand import Demand
from heatshield_alerts.draft import Draft
from heatshield_alerts.held_breaker import COOL_S, HeldBreaker, hold_s
from heatshield_alerts.probes import FIRST_RATE_PER_S
from heatshield_alerts.restraint import Restraint

__all__ = ["FORMAT", "KeptControl", "keep"]

FORMAT: Final = 1
"""Of the JSON. What is of another is refused; fields that are not known are ignored."""

_MOMENTS: Final = ("since", "granted")
_STEPS: Final = ("then", "first")
_OF_DRAFT: Final = ("threshold", "cost_per_call", "load", "traffic")

_UNREADABLE: Final = (
    ContractError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip
"""What reading a value raises that has another type, or is no value."""


def keep(held: Iterable[HeldBreaker], restraint: Restraint, now: Instant) -> dict[str, Any]:
    """All that breaker control holds at a moment, as JSON."""
    return {
        "format": FORMAT,
        "at_ns": now.epoch_ns,
        "held": [_held_json(one, now) for one in held],
        "restraint": restraint.to_json(lambda at_s: _ns(at_s, now)),
    }


class KeptControl:
    """What :func:`keep` wrote, read back.

    Args:
        value: the JSON; what can't be read of it is left out.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value if value.get("format") == FORMAT else {}

    @classmethod
    def of_entries(cls, entries: Iterable[tuple[Mapping[str, Any], int, int]]) -> Self:
        """What older versions kept: entries alone.

        Args:
            entries: each as JSON, with when it was granted (nanoseconds since the Unix epoch) and
                for how long it is held from there (milliseconds).
        """
        rows = [
            {
                "entry": dict(entry),
                "state": BreakerState.OPEN.value,
                "hold_s": hold_ms / 1_000,
                **{f"{name}_ns": at_ns for name in _MOMENTS},
                "draft": {
                    "lease_ms": _lease_ms(entry, hold_ms),
                    "threshold": entry.get("evidence", {}).get("threshold", 0.0),
                    "cost_per_call": entry.get("evidence", {}).get("cost_per_call", 0.0),
                    "load": entry.get("evidence", {}).get("busy_load", 0.0),
                },
            }
            for entry, at_ns, hold_ms in entries
        ]
        return cls({"format": FORMAT, "held": rows})

    def held(self, now: Instant) -> list[HeldBreaker]:
        """The breakers that are still held at this moment."""
        rows = self._value.get("held")
        seen_ns = self._value.get("at_ns", now.epoch_ns)
        found = (_held(row, seen_ns, now) for row in (rows if isinstance(rows, list) else ()))
        return [one for one in found if one is not None and one.left_s(now.monotonic_s) > 0]

    def restraint(self, now: Instant) -> Restraint:
        """The moves and hold-downs that still count."""
        kept = self._value.get("restraint", {})
        try:
            return Restraint.from_json(kept, lambda at_ns: _monotonic(at_ns, now))
        except _UNREADABLE:
            return Restraint()


def _held_json(held: HeldBreaker, now: Instant) -> dict[str, Any]:
    draft = held.draft
    moments = {f"{name}_ns": _ns(getattr(held, f"{name}_s"), now) for name in _MOMENTS}
    low_since_s = held.demand.low_since_s
    return {
        "entry": asdict(held.entry),
        "state": held.state.value,
        "hold_s": held.hold_s,
        "cool_s": held.cool_s,
        **moments,
        "low_since_ns": None if low_since_s is None else _ns(low_since_s, now),
        "draft": {
            "lease_ms": draft.lease_ms,
            "grant_ms": draft.grant_ms,
            "probe_per_s": draft.probe_per_s,
            **{name: _mode_json(getattr(draft, name)) for name in _STEPS},
            **{name: getattr(draft, name) for name in _OF_DRAFT},
        },
    }


def _held(row: Mapping[str, Any], seen_ns: int, now: Instant) -> HeldBreaker | None:
    """Read one back; ``None``: it can't be read.

    Args:
        row: the JSON.
        seen_ns: when demand was last observed, nanoseconds since the Unix epoch.
        now: the time.
    """
    seen = Instant(now.monotonic_s, seen_ns)
    try:
        entry = BreakerEntry.from_json(row["entry"])
        state = BreakerState(row["state"])
        draft = _draft(entry, row.get("draft", {}))
        since_s, granted_s = (_monotonic(int(row[f"{name}_ns"]), now) for name in _MOMENTS)
        low_ns = row.get("low_since_ns")
        low = None if low_ns is None else _monotonic(int(low_ns), seen)
        hold = min(float(row["hold_s"]), hold_s(draft))
        demand = Demand(draft.threshold, draft.cost_per_call, since_s=now.monotonic_s)
        demand.low_since_s = low
        return HeldBreaker(
            entry=entry,
            draft=draft,
            state=state,
            since_s=since_s,
            granted_s=granted_s,
            hold_s=hold,
            demand=demand,
            kept_s=now.monotonic_s,
            # the next one has not evaluated anything yet: it has a lease's time for it
            rule_s=now.monotonic_s,
            cool_s=float(row.get("cool_s") or COOL_S),
        )
    except _UNREADABLE:
        return None


def _draft(entry: BreakerEntry, kept: Mapping[str, Any]) -> Draft:
    lease_ms, grant_ms = kept.get("lease_ms"), kept.get("grant_ms")
    then, first = (_mode(kept.get(name)) for name in _STEPS)
    draft = Draft(
        key=entry.key,
        issuer=entry.issuer,
        mode=entry.mode,
        lease_ms=None if lease_ms is None else int(lease_ms),
        rate_per_s=entry.rate_per_s,
        reason=entry.reason,
        evidence=entry.evidence,
        scope=entry.scope,
        budget=entry.budget,
        waiting=entry.waiting,
        wait_ms=entry.wait_ms,
        then=then,
        first=first,
        grant_ms=None if grant_ms is None else int(grant_ms),
        probe_per_s=float(kept.get("probe_per_s") or FIRST_RATE_PER_S),
    )
    figures: dict[str, Any] = {name: float(kept.get(name) or 0.0) for name in _OF_DRAFT}
    return replace(draft, **figures)


def _mode_json(mode: BreakerMode | None) -> str | None:
    return None if mode is None else mode.value


def _mode(kept: str | None) -> BreakerMode | None:
    return None if kept is None else BreakerMode(kept)


def _lease_ms(entry: Mapping[str, Any], hold_ms: int) -> int | None:
    """The lease that a person asked for; older versions did not keep whether one was."""
    lease_ms = entry.get("lease_ms")
    by_human = str(entry.get("issuer")).startswith("human:")
    return lease_ms if by_human and isinstance(lease_ms, int) and hold_ms <= lease_ms else None


def _ns(at_s: float, now: Instant) -> int:
    return now.epoch_ns - round((now.monotonic_s - at_s) * 1e9)


def _monotonic(at_ns: int, now: Instant) -> float:
    return now.monotonic_s - max(0, now.epoch_ns - at_ns) / 1e9
