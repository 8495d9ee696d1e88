"""Places the logs of a linked request among its spans.

The collector answers spans in tree order, each with its depth. It also resolves missing parents,
cycles of parents and span ids that two spans share, so this module keeps the order as it is.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heatshield.cli.answers import Log, Span

__all__ = ["LogLine", "SpanLine", "lines"]


class SpanLine(NamedTuple):
    """A span and its depth in the tree."""

    depth: int
    span: Span


class LogLine(NamedTuple):
    """A log record, one level deeper than its span."""

    depth: int
    log: Log


@dataclass(frozen=True, slots=True)
class _Open:
    """A span whose subtree is being shown, and its remaining logs in order of time."""

    depth: int
    logs: deque[Log]


def lines(spans: Sequence[Span], logs: Sequence[Log]) -> Iterator[SpanLine | LogLine]:
    """Yield every span and log exactly once; spans keep their order.

    A log stands beneath its span, before the first child that starts after it. Logs without a
    span, or whose span is missing, come last.
    """
    logs_of, rest = _by_span(spans, logs)
    path: list[_Open] = []
    for index, span in enumerate(spans):
        depth = span["depth"]
        while path and path[-1].depth >= depth:
            yield from _logs(path.pop())
        if path:
            yield from _logs(path[-1], until_ns=span["start_ns"])
        yield SpanLine(depth, span)
        path.append(_Open(depth, deque(logs_of[index])))
    while path:
        yield from _logs(path.pop())
    for log in rest:
        yield LogLine(0, log)


def _logs(above: _Open, until_ns: int | None = None) -> Iterator[LogLine]:
    while above.logs and (until_ns is None or above.logs[0]["time_ns"] <= until_ns):
        yield LogLine(above.depth + 1, above.logs.popleft())


def _by_span(spans: Sequence[Span], logs: Sequence[Log]) -> tuple[dict[int, list[Log]], list[Log]]:
    """Return logs in order of time by the index of their span, and the logs without a span.

    Zipkin's client and server share one span id; the log's service tells them apart.
    """
    position: dict[tuple[str | None, str | None], int] = {}
    for index, span in enumerate(spans):
        position.setdefault((span["service"], span["span_id"]), index)
        position.setdefault((None, span["span_id"]), index)
    logs_of: dict[int, list[Log]] = defaultdict(list)
    rest: list[Log] = []
    for log in sorted(logs, key=lambda log: log["time_ns"]):
        index = position.get(
            (log["service"], log["span_id"]), position.get((None, log["span_id"]), -1)
        )
        (rest if index < 0 else logs_of[index]).append(log)
    return logs_of, rest
