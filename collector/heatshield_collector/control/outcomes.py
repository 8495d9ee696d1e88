"""What is done about each user whom an alert names: cut, paced, flagged, or not, and why."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from heatshield.call_key import CallKey
from heatshield.contract import BreakerEntry, BreakerMode, PlatformMode
from heatshield_alerts.breaker_changes import Change, ChangeKind
from heatshield_alerts.draft import Reason
from heatshield_alerts.outcome import Outcome, OutcomeKind
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.held_entries import entries_about

__all__ = ["Outcomes"]

_KINDS: Final = {
    BreakerMode.PACE: OutcomeKind.PACED,
    BreakerMode.REJECT: OutcomeKind.CUT,
    BreakerMode.TRICKLE: OutcomeKind.PACED,
    BreakerMode.FLAG: OutcomeKind.FLAGGED,
}


class Outcomes:
    """Knows the refusals of the alerts that fire; the rest the breakers know.

    One thread notes, every thread may ask.

    Args:
        breakers: the breaker state.
    """

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._refused: Mapping[CallKey, Reason] = {}

    def note(self, key: CallKey, change: Change) -> None:
        """Take in what became of an alert's decision."""
        refused = {one: reason for one, reason in self._refused.items() if one != key}
        if change.kind is ChangeKind.REFUSED and change.reason is not None:
            refused[key] = change.reason
        self._refused = refused

    def forget_all_but(self, firing: Iterable[CallKey]) -> None:
        """Let go of what was refused to alerts that fire no longer."""
        kept = set(firing)
        self._refused = {key: why for key, why in self._refused.items() if key in kept}

    def of(self, key: CallKey) -> Outcome | None:
        """What is done about a user on a call; ``None``: nothing was asked for."""
        for entry in self._about(key):
            return self._held(entry)
        reason = self._refused.get(key)
        return None if reason is None else _refusal(reason)

    def not_cut(self) -> list[tuple[CallKey, str]]:
        """The users whom alerts ask to cut and who are not, with the reason."""
        return [
            (key, _refusal(why).text)
            for key, why in self._refused.items()
            if next(self._about(key), None) is None
        ]

    def text_of(self, key: CallKey) -> str:
        """The same as a sentence; empty: nothing was asked for."""
        outcome = self.of(key)
        return "" if outcome is None else outcome.text

    def refuses_calls_of(self, key: CallKey) -> bool:
        """Whether clients refuse calls of a user, all of them or some."""
        if self._breakers.mode() is PlatformMode.SHADOW:
            return False
        return any(entry.mode is not BreakerMode.FLAG for entry in self._about(key))

    def _about(self, key: CallKey) -> Iterator[BreakerEntry]:
        return entries_about(key, (entry for _, _, entry in self._breakers.held()))

    def _held(self, entry: BreakerEntry) -> Outcome:
        kind = _KINDS[entry.mode]
        text = kind.value
        if entry.mode is BreakerMode.PACE:
            text = f"{text} to {entry.budget:.3g} busy seconds a second"
        if entry.mode is BreakerMode.TRICKLE:
            text = f"{text} at {entry.rate_per_s:g} calls a second and instance"
        if self._breakers.mode() is PlatformMode.SHADOW:
            text = f"would be {text}, but the platform is in shadow"
            return Outcome(OutcomeKind.SHADOW, text)
        return Outcome(kind, text)


def _refusal(reason: Reason) -> Outcome:
    if reason is Reason.COLD_START:
        return Outcome(OutcomeKind.WAITING, "not cut: waiting for the cold start to end")
    return Outcome(OutcomeKind.NOT_CUT, f"not cut: {reason}")
