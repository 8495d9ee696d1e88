"""One version of the breaker state, as a client's table holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from heatshield.contract import BreakerEntry, DeclaredLimit, Delta, PlatformMode, StateVersion

__all__ = ["TableState", "merged_entries"]


@dataclass(frozen=True, slots=True)
class TableState:
    """One version of the state; replaced as a whole, never changed."""

    at: StateVersion | None = None
    mode: PlatformMode = PlatformMode.SHADOW
    entries: Mapping[str, BreakerEntry] = field(default_factory=dict)
    limits: tuple[DeclaredLimit, ...] = ()


def merged_entries(entries: Mapping[str, BreakerEntry], delta: Delta) -> dict[str, BreakerEntry]:
    """The entries after a change."""
    merged = {name: entry for name, entry in entries.items() if name not in delta.remove}
    merged.update((entry.id, entry) for entry in delta.upsert)
    return merged
