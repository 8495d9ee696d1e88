"""Tell each thing once: a pure decision with its reason, and the stage that asks it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from heatshield.clock import Clock
from heatshield_alerts.notify.notice import Notice, Status
from heatshield_alerts.outcome import OutcomeKind
from heatshield_alerts.series import Labels

__all__ = ["REPEAT_S", "DedupReason", "DedupStage", "RecordStage", "Sent", "SentLog", "judge"]

REPEAT_S: Final = 4 * 3_600.0
"""Seconds after which an alert that still fires is told again; Alertmanager's default."""

MAX_SENT: Final = 10_000
"""Alerts a target's log remembers; the oldest go. One that is forgotten may be told twice."""


class DedupReason(StrEnum):
    """Why a notice goes out, or does not."""

    FIRST = "it fires and was not told before"
    FIRES_AGAIN = "it fires again after it was told resolved"
    REPEAT = "it still fires, and was told long ago"
    RESOLVED = "it was told firing and is resolved"
    ACTED_ON = "it was told that nothing is done, and now something is"
    UNCHANGED = "it was told already"
    NEVER_TOLD = "it is resolved, but was never told firing"

    @property
    def sends(self) -> bool:
        """Whether the notice goes out."""
        return self not in (DedupReason.UNCHANGED, DedupReason.NEVER_TOLD)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a target was told last of an alert, when, and what was done then."""

    status: Status
    at_s: float
    done: OutcomeKind | None = None


def judge(
    last: Sent | None,
    status: Status,
    now: float,
    repeat_s: float,
    done: OutcomeKind | None = None,
) -> DedupReason:
    """Whether to tell ``status``, and what is ``done``, to a target that was last told ``last``."""
    if last is None:
        return DedupReason.FIRST if status is Status.FIRING else DedupReason.NEVER_TOLD
    if status is Status.RESOLVED:
        return DedupReason.RESOLVED if last.status is Status.FIRING else DedupReason.UNCHANGED
    if last.status is Status.RESOLVED:
        return DedupReason.FIRES_AGAIN
    if last.done and done and done.acts and not last.done.acts:
        return DedupReason.ACTED_ON
    return DedupReason.REPEAT if now - last.at_s >= repeat_s else DedupReason.UNCHANGED


class SentLog:
    """What one target was told of each alert, by the alert's labels.

    Args:
        changed: told of what is noted, and with ``None`` of what is forgotten.
    """

    def __init__(self, changed: Callable[[Labels, Sent | None], None] | None = None) -> None:
        self._sent: dict[Labels, Sent] = {}
        self._changed = changed or (lambda _labels, _sent: None)

    @property
    def by_labels(self) -> Mapping[Labels, Sent]:
        """All that is remembered."""
        return self._sent

    def note(self, labels: Labels, sent: Sent) -> None:
        """The target was told."""
        self._sent.pop(labels, None)
        self._sent[labels] = sent
        self._changed(labels, sent)
        if len(self._sent) > MAX_SENT:
            oldest = next(iter(self._sent))
            del self._sent[oldest]
            self._changed(oldest, None)

    def restore(self, sent: Mapping[Labels, Sent]) -> None:
        """Go on with what an earlier process noted."""
        self._sent.update(sent)


class DedupStage:
    """Ends the way of a notice that says nothing new."""

    def __init__(self, log: SentLog, clock: Clock, repeat_s: float = REPEAT_S) -> None:
        self._log = log
        self._clock = clock
        self._repeat_s = repeat_s

    def run(self, notice: Notice) -> Notice | None:
        """Pass on what is news."""
        last = self._log.by_labels.get(notice.alert.labels)
        reason = judge(last, notice.status, self._clock.monotonic(), self._repeat_s, notice.done)
        return notice if reason.sends else None


class RecordStage:
    """Stands last: notes what was told, so that only what arrived counts as told."""

    def __init__(self, log: SentLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    def run(self, notice: Notice) -> Notice:
        """Note it."""
        sent = Sent(notice.status, self._clock.monotonic(), notice.done)
        self._log.note(notice.alert.labels, sent)
        return notice
