"""The way of a notification, off the event loop: one thread and one bounded queue per target.

submit → queue → dedup → render → deliver with retries → record. A target that is slow or down
holds up only its own; when its queue is full, notices are dropped and counted.
"""

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from heatshield.clock import Clock, Instant, SystemClock
from heatshield_alerts.notify.dedup import REPEAT_S, DedupStage, RecordStage, SentLog
from heatshield_alerts.notify.deliver import AppriseSender, DeliveryError, Sender
from heatshield_alerts.notify.kept import Keep, read_sent, sent_key, sent_text, target_id
from heatshield_alerts.notify.notice import Notice, Stage, Status
from heatshield_alerts.notify.render import RenderStage
from heatshield_alerts.notify.retry import RetryPolicy, RetryStage
from heatshield_alerts.rules.state import Alert, AlertState
from heatshield_alerts.rules.track import ALERT_NAME
from heatshield_alerts.series import Labels

__all__ = ["QUEUE_NOTICES", "Counts", "Notifier"]

QUEUE_NOTICES: Final = 256
"""Notices waiting for one target: more than the caps on entries make in ten minutes."""

STOP_S: Final = 2.0
"""Seconds :meth:`Notifier.stop` waits for what is on its way."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counts:
    """What became of the notices, over all targets."""

    sent: int = 0
    suppressed: int = 0
    retried: int = 0
    failed: int = 0
    dropped: int = 0


class Notifier:
    """Tells targets of alerts that fire and resolve.

    Args:
        urls: apprise URLs, one target each.
        public_url: where people reach the collector, for links.
        clock: for repeats and for giving up, and what the threads wait on.
        repeat_s: seconds after which an alert that still fires is told again.
        retry: how long to try.
        make_sender: makes a target's sender; tests hand in their own.
        chance: uniform random numbers in [0, 1), for the jitter of retries; they decide nothing.
        keep: takes what targets were told, for :meth:`restore` after a restart.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        public_url: str = "",
        clock: Clock | None = None,
        repeat_s: float = REPEAT_S,
        retry: RetryPolicy | None = None,
        make_sender: Callable[[str], Sender] = AppriseSender,
        chance: Callable[[], float] = random.random,
        keep: Keep = lambda _changed: None,
    ) -> None:
        self._urls = tuple(urls)
        self._public_url = public_url
        self._clock = clock or SystemClock()
        self._repeat_s = repeat_s
        self._retry = retry or RetryPolicy()
        self._make_sender = make_sender
        self._chance = chance
        self._keep = keep
        self._counts = Counts()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._lanes: list[_Lane] = []

    @property
    def counts(self) -> Counts:
        """What became of the notices so far."""
        with self._lock:
            return Counts(**{name: getattr(self._counts, name) for name in Counts.__slots__})

    def start(self) -> None:
        """Start a thread for each target.

        Raises:
            NotifyConfigError: if apprise does not understand one; then nothing was started.
        """
        if self._lanes:
            return
        self._stopping.clear()
        lanes = [self._lane(url) for url in self._urls]
        for lane in lanes:
            lane.thread.start()
        self._lanes = lanes

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stop: what is queued gets one attempt within ``timeout_s``, the rest is let go."""
        self._stopping.set()
        deadline_s = self._clock.monotonic() + timeout_s
        for lane in self._lanes:
            lane.close()
        for lane in self._lanes:
            self._clock.wait(lane.ended, max(0.0, deadline_s - self._clock.monotonic()))
        self._lanes = []

    def restore(
        self,
        kept: Mapping[str, str],
        alerts: Iterable[Alert],
        held_back: Collection[Labels] = (),
    ) -> None:
        """Go on with what an earlier process told; once, after :meth:`start`.

        Targets hear of what changed meanwhile: an alert that they were not told of, one that is
        resolved, and one that is there no longer, because its rule is not.

        Args:
            kept: what ``keep`` was told last.
            alerts: those that go on.
            held_back: those of them that somebody submits later.
        """
        now = self._clock.now()
        told = read_sent(kept, now)
        alerts = list(alerts)
        there = {alert.labels for alert in alerts if alert.state is not AlertState.PENDING}
        for lane in self._lanes:
            sent = told.pop(lane.target, {})
            lane.sent_log.restore(sent)
            for labels in sent:
                if labels in there:
                    continue
                if not lane.offer(Notice(_ended(labels, now), Status.RESOLVED)):
                    self._count("dropped")
        self._keep({sent_key(gone, one): None for gone, by in told.items() for one in by})
        for alert in alerts:
            if alert.labels not in held_back:
                self.submit(alert)

    def submit(self, alert: Alert, trace_ids: Sequence[str] = ()) -> None:
        """Tell every target, if the alert fires or is resolved. Never blocks, never raises."""
        notice = Notice.of(alert, tuple(trace_ids))
        if notice is None:
            return
        for lane in self._lanes:
            if not lane.offer(notice):
                self._count("dropped")

    def _lane(self, url: str) -> "_Lane":
        sender, target = self._make_sender(url), target_id(url)
        sent_log = SentLog(
            lambda labels, sent: self._keep(
                {sent_key(target, labels): sent_text(sent, self._clock.now())}
            )
        )
        stages: list[Stage] = [
            DedupStage(sent_log, self._clock, self._repeat_s),
            RenderStage(self._public_url),
            RetryStage(
                sender,
                self._clock,
                self._stopping,
                self._retry,
                self._chance,
                lambda: self._count("retried"),
            ),
            RecordStage(sent_log, self._clock),
        ]
        return _Lane(stages, self._count, self._clock, target, sent_log)

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self._counts, name, getattr(self._counts, name) + 1)


def _ended(labels: Labels, now: Instant) -> Alert:
    """An alert of which only what people were told is known, as resolved."""
    name = labels.get(ALERT_NAME, "")
    return Alert(name, labels, AlertState.RESOLVED, math.nan, resolved_at=now)


class _Lane:
    """One target's queue, and the thread that empties it."""

    def __init__(
        self,
        stages: Sequence[Stage],
        count: Callable[[str], None],
        clock: Clock,
        target: str,
        sent_log: SentLog,
    ) -> None:
        self.target = target
        self.sent_log = sent_log
        self._stages = stages
        self._count = count
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[Notice] = deque()
        self._closed = False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="heatshield-notify", daemon=True)

    def offer(self, notice: Notice) -> bool:
        """Queue a notice; false if there is no room."""
        with self._changed:
            if len(self._queue) >= QUEUE_NOTICES:
                return False
            self._queue.append(notice)
            self._changed.notify()
        return True

    def close(self) -> None:
        """Have the thread end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _take(self) -> Notice | None:
        """The next notice; ``None`` at the end."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: bool(self._queue) or self._closed)
            return self._queue.popleft() if self._queue else None

    def _run(self) -> None:
        while (notice := self._take()) is not None:
            self._count(self._outcome(notice))
        self.ended.set()

    def _outcome(self, notice: Notice) -> str:
        """Run the stages; a failure ends this notice, never the thread."""
        try:
            for stage in self._stages:
                passed = stage.run(notice)
                if passed is None:
                    return "suppressed"
                notice = passed
        except DeliveryError as error:
            log.warning("notification failed", alert=notice.alert.rule, error=str(error))
            return "failed"
        except Exception:
            log.exception("notification broke", alert=notice.alert.rule)
            return "failed"
        return "sent"
