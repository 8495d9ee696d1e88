"""Spans and log records that wait to be encoded: two queues, bounded, of which the oldest go.

Threads that serve requests append; the thread that exports takes batches. The methods of deques and
sets are atomic, so neither takes a lock; what is read and then written must be one's own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from heatshield.counters import COUNTERS
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import Payload, encode
from heatshield.export.sampling import TraceSampling
from heatshield.export.urgency import Urgency
from heatshield.names import COST_ELEMENTS
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import EndedSpan, Span

__all__ = ["Records"]

R = TypeVar("R")


class Records:
    """The queues of one process.

    Args:
        settings: bounds of batches and queues.
        resource: what this process is, asked for each batch.
        is_charged: whether the collector knows costs without spans, so that some may be left out.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        resource: Callable[[], Mapping[str, str | int]],
        is_charged: Callable[[], bool] = bool,
    ) -> None:
        self._most = settings.queue_records
        self._batch = settings.batch_records
        self._resource = resource
        self._spans: deque[EndedSpan] = deque()
        self._logs: deque[LogEvent] = deque()
        self._urgency = Urgency()
        self._sampling = TraceSampling(settings.trace_ratio, is_charged)
        self._urgent: set[int] = set()  # ids of queued spans

    def __len__(self) -> int:
        return len(self._spans) + len(self._logs)

    def by_queue(self) -> dict[str, float]:
        """Records that wait, by queue."""
        return {"spans": len(self._spans), "logs": len(self._logs)}

    def add_span(self, span: EndedSpan) -> bool:
        """Queue a span, ours or the SDK's; whether it, or a full batch, should leave at once."""
        attributes = span.raw_attributes if type(span) is Span else span.attributes or {}
        elements = attributes.get(COST_ELEMENTS, 0)
        is_urgent = self._urgency.judge(
            span.name,
            ((span.end_time or 0) - (span.start_time or 0)) / 1e9,
            elements if type(elements) is int else 0,
        )
        if not is_urgent and self._sampling.leaves_out(span):
            return False
        queue = self._spans
        waiting = len(queue)
        if waiting >= self._most:
            self._make_room(queue)
        if is_urgent:
            self._urgent.add(id(span))  # before it can be taken
        queue.append(span)
        return is_urgent or waiting + 1 >= self._batch

    def add_log(self, event: LogEvent) -> bool:
        """Queue a log record; whether a full batch should leave at once."""
        queue = self._logs
        waiting = len(queue)
        if waiting >= self._most:
            self._make_room(queue)
        queue.append(event)
        return waiting + 1 >= self._batch

    def _make_room(self, queue: deque[R]) -> None:
        dropped = _take(queue, 1)
        if dropped:
            self._claim_urgent(dropped)
            COUNTERS.drop("queue_full")
            _release(dropped)

    def _claim_urgent(self, taken: Sequence[object]) -> bool:
        """Whether an urgent span is among those that were taken; it is remembered no longer."""
        if not self._urgent:
            return False
        ids = set(map(id, taken))
        is_urgent = not self._urgent.isdisjoint(ids)
        self._urgent.difference_update(ids)
        return is_urgent

    def encode(self, deliver: Callable[[Payload, bool], object]) -> None:
        """Encode all that waits; never fails.

        Args:
            deliver: takes each payload, and whether it is urgent.
        """
        is_urgent = False
        for spans, logs in self._batches():
            left = len(spans) + len(logs)
            is_urgent = self._claim_urgent(spans) or is_urgent
            try:
                for payload in encode(spans, logs, self._resource()):
                    left -= payload.records
                    deliver(payload, is_urgent)
            except Exception:  # noqa: BLE001  # a mistake of ours must not end the thread
                COUNTERS.error("export")
                COUNTERS.drop("export_failed", left)
            finally:
                _release(spans)

    def _batches(self) -> Iterator[tuple[list[EndedSpan], list[LogEvent]]]:
        """What waits now; what comes meanwhile may wait for the next time."""
        most = self._batch
        for _ in range(1 + max(len(self._spans), len(self._logs)) // most):
            spans, logs = _take(self._spans, most), _take(self._logs, most)
            if spans or logs:
                yield spans, logs

    def abandon(self) -> int:
        """Let go of all that waits; returns how many records."""
        spans = _take(self._spans, len(self._spans))
        self._claim_urgent(spans)
        _release(spans)
        return len(spans) + len(_take(self._logs, len(self._logs)))


def _release(records: Iterable[object]) -> None:
    """Let spans of ours go of their requests: the two hold each other."""
    if PROVIDER.watched:
        return  # processors of the service's own may hold them
    for record in records:
        if type(record) is Span:
            record.release()


def _take(queue: deque[R], most: int) -> list[R]:
    taken: list[R] = []
    with suppress(IndexError):  # other threads may take from a full queue meanwhile
        while len(taken) < most:
            taken.append(queue.popleft())
    return taken
