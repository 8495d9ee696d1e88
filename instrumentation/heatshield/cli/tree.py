"""The order in which the parts of a linked request are shown: a tree of spans, logs in place.

What arrives may lack spans (a service that is not instrumented, a batch still on its way), so a
span whose parent is unknown stands at the root, and even a ring of parents shows each span once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heatshield.cli.answers import Log, Span

__all__ = ["LogLine", "SpanLine", "lines"]


class SpanLine(NamedTuple):
    """A span and how deep it stands."""

    depth: int
    span: Span


class LogLine(NamedTuple):
    """A log record, one deeper than the span it belongs to."""

    depth: int
    log: Log


def lines(spans: Sequence[Span], logs: Sequence[Log]) -> Iterator[SpanLine | LogLine]:
    """Every span and log exactly once: a parent first, its children and logs beneath by time.

    Logs of no span, or of one that is not there, come last. Works without recursion: a chain of
    calls may be longer than Python's stack.
    """
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[Span]] = defaultdict(list)
    for span in spans:
        parent = span["parent_span_id"]
        children[parent if parent in known else None].append(span)
    logs_of: dict[str | None, list[Log]] = defaultdict(list)
    for log in logs:
        logs_of[log["span_id"] if log["span_id"] in known else None].append(log)

    shown: set[str] = set()
    for root in (*_by_time(children[None]), *spans):  # *spans: those in a ring have no root
        yield from _below(root, children, logs_of, shown)
    for log in sorted(logs_of[None], key=_time_of_log):
        yield LogLine(0, log)


def _below(
    root: Span,
    children: dict[str | None, list[Span]],
    logs_of: dict[str | None, list[Log]],
    shown: set[str],
) -> Iterator[SpanLine | LogLine]:
    waiting: list[SpanLine | LogLine] = [SpanLine(0, root)]
    while waiting:
        line = waiting.pop()
        if isinstance(line, LogLine):
            yield line
            continue
        span_id = line.span["span_id"]
        if span_id in shown:
            continue
        shown.add(span_id)
        yield line
        beneath: list[tuple[int, SpanLine | LogLine]] = [
            *((child["start_ns"], SpanLine(line.depth + 1, child)) for child in children[span_id]),
            *((log["time_ns"], LogLine(line.depth + 1, log)) for log in logs_of[span_id]),
        ]
        beneath.sort(key=lambda timed: timed[0], reverse=True)
        waiting.extend(part for _, part in beneath)


def _by_time(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span["start_ns"])


def _time_of_log(log: Log) -> int:
    return log["time_ns"]
