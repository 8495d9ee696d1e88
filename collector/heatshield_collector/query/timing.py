"""Times of a request's spans as people should see them: clocks aligned, self times.

Services' clocks differ by milliseconds and calls last as long, so a call can seem to begin before
it was made. The correction is that of Jaeger's query service (documented under "Clock Skew
Adjustment"): a server span that does not lie within its client's is moved to its middle, and
everything that its process did beneath it moves along. Detection never sees it.
"""

from collections.abc import Sequence

from heatshield_collector.link.tree import SERVER
from heatshield_collector.query.tree import Place
from heatshield_collector.store.protocol import Row

__all__ = ["self_times", "skews"]


def skews(rows: Sequence[Row], parents: Sequence[int], order: Sequence[Place]) -> list[int]:
    """What to add to each row's start, in ns.

    Args:
        rows: spans.
        parents: row of each one's parent, -1 for none.
        order: all rows, parents before children.
    """
    added = [0] * len(rows)
    for index, _ in order:
        parent = parents[index]
        if parent < 0:
            continue
        if _process(rows[index]) == _process(rows[parent]):
            added[index] = added[parent]
        else:
            added[index] = _skew(rows[index], rows[parent], added[parent])
    return added


def self_times(
    starts: Sequence[int], durations: Sequence[int], parents: Sequence[int]
) -> list[int]:
    """Each span's duration less the union of its children's intervals within it, in ns."""
    covered = [0] * len(starts)
    reached = list(starts)  # how far a span's children have covered it so far
    for index in sorted(range(len(starts)), key=starts.__getitem__):
        parent = parents[index]
        if parent < 0:
            continue
        end = min(starts[index] + durations[index], starts[parent] + durations[parent])
        start = max(starts[index], reached[parent])
        if end > start:
            covered[parent] += end - start
            reached[parent] = end
    return [duration - part for duration, part in zip(durations, covered, strict=True)]


def _process(row: Row) -> tuple[str, str]:
    return (row["service"], row["instance"])


def _skew(child: Row, parent: Row, parent_skew_ns: int) -> int:
    start, duration = child["start_ns"], child["duration_ns"]
    parent_start, parent_duration = parent["start_ns"] + parent_skew_ns, parent["duration_ns"]
    early = start < parent_start
    if child["kind"] != SERVER or duration > parent_duration:
        # It may go on after its caller stopped waiting; it can't have begun before it was called.
        return parent_start - start if early else 0
    if not early and start + duration <= parent_start + parent_duration:
        return 0
    on_the_way = (parent_duration - duration) // 2  # taken as equal there and back
    return int(parent_start + on_the_way - start)
