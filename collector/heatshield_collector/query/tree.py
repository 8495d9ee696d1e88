"""Who stands under whom in a request, whatever was lost on the way.

Parents are row numbers, -1 for none. A parent may be missing (an orphan), be the span itself or
close a ring; no shape of input is an error, each row appears once, and nothing recurses: a chain of
spans may be longer than the stack.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from heatshield_collector.link.tree import CLIENT, SERVER
from heatshield_collector.store.protocol import Row

__all__ = ["Place", "is_orphan", "parents_of", "preorder"]


class Place(NamedTuple):
    """A row and how many levels below the root level it stands."""

    row: int
    depth: int


def parents_of(rows: Sequence[Row]) -> list[int]:
    """The row of each row's parent, -1 for roots, orphans and the earliest row of a ring.

    Zipkin's two sides of a call share one id: the server's side then stands under the client's,
    and what names that id stands under the side of its own service.
    """
    sides: dict[bytes, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        sides[row["span_id"]].append(index)
    parents = [_parent(index, rows, sides) for index in range(len(rows))]
    _cut_rings(parents, [row["start_ns"] for row in rows])
    return parents


def is_orphan(row: Row, parent: int) -> bool:
    """Whether a row names a parent it was not given."""
    return parent < 0 and bool(row["parent_span_id"])


def preorder(parents: Sequence[int], key: Callable[[int], Any]) -> list[Place]:
    """Every row once, a parent before its children, siblings (and roots) by ``key`` of their row.

    Args:
        parents: without rings, as :func:`parents_of` gives them.
        key: what siblings are sorted by.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for index, parent in enumerate(parents):
        children[parent].append(index)
    for rows in children.values():
        rows.sort(key=key, reverse=True)  # the stack takes the last one first
    places = []
    stack = [Place(row, 0) for row in children[-1]]
    while stack:
        place = stack.pop()
        places.append(place)
        stack.extend(Place(row, place.depth + 1) for row in children.get(place.row, ()))
    return places


def _parent(index: int, rows: Sequence[Row], sides: dict[bytes, list[int]]) -> int:
    row = rows[index]
    if row["kind"] == SERVER:
        for twin in sides[row["span_id"]]:
            if rows[twin]["kind"] == CLIENT:
                return twin
    named = row["parent_span_id"]
    candidates = [side for side in sides.get(named, ()) if side != index] if named else []
    if not candidates:
        return -1
    return max(
        candidates,
        key=lambda side: (rows[side]["service"] == row["service"], rows[side]["kind"] == SERVER),
    )


def _cut_rings(parents: list[int], starts: Sequence[int]) -> None:
    """Make the earliest row of each ring a root, in place."""
    seen_in: list[int] = [-1] * len(parents)
    for walk in range(len(parents)):
        path, at = [], walk
        while at >= 0 and seen_in[at] < 0:
            seen_in[at] = walk
            path.append(at)
            at = parents[at]
        if at >= 0 and seen_in[at] == walk:
            ring = path[path.index(at) :]
            parents[min(ring, key=lambda row: starts[row])] = -1
