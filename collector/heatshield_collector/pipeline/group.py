"""What passes through the pipeline: payloads that wait for their answers, and groups of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from heatshield.clock import Instant
from heatshield_collector.decode import Decoded
from heatshield_collector.intake.ack import Ack
from heatshield_collector.intake.formats import Format
from heatshield_collector.intake.payload import Accepted, Payload, Signal

__all__ = ["BUSY_RETRY_S", "Charges", "Group", "Release", "Waiting"]

BUSY_RETRY_S: Final = 1.0
"""Seconds after which a sender may try again what was refused for the moment."""

_TABLES: Final[dict[Signal, str]] = {"traces": "spans", "logs": "logs", "metrics": "samples"}
"""Where the rows of each signal are stored."""


class Charges(Protocol):
    """What is done with spans before they are stored, and told of what is stored."""

    def charge(self, spans: pa.Table, now: Instant) -> pa.Table:
        """Charge spans (``model.SPANS``) received at ``now``; on the decoding thread.

        Returns:
            ``model.REQUEST_PARTS``, to be stored with them.
        """
        ...

    def settle(self, now: Instant) -> None:
        """Decide what has waited for later spans: none came for a while; on the decoding thread."""
        ...

    def committed(self, rows: Mapping[str, int], seconds: float) -> None:
        """Count a durable group; on the committing thread.

        Args:
            rows: how many, by table.
            seconds: since the first payload of the group was offered.
        """
        ...

    def not_stored(self, spans: pa.Table) -> None:
        """Note that spans which were charged are not stored; on the committing thread. Their
        senders are told to try again.
        """
        ...


class Release(Protocol):
    """Gives back the room that payloads took in the queue."""

    def __call__(self, waiting: Sequence["Waiting"]) -> None:
        """These payloads are about to be answered."""
        ...


@dataclass(eq=False, slots=True)
class Waiting:
    """A payload whose sender waits for the answer, since ``since_s`` of the monotonic clock."""

    payload: Payload
    ack: Ack
    since_s: float

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return len(self.payload.body)


@dataclass(slots=True)
class Group:
    """Payloads decoded together, with what each is answered once they are durable.

    Attributes:
        waiting: the payloads; as many as there are ``answers``.
        answers: for each payload, in the same order.
        tables: what to store, by the name of its table.
    """

    waiting: list[Waiting] = field(default_factory=list)
    answers: list[Accepted] = field(default_factory=list)
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)

    def add(self, waiting: Sequence[Waiting], decoded: Decoded, form: Format) -> None:
        """Add payloads of one format that were decoded jointly."""
        self.waiting += waiting
        for index, one in enumerate(waiting):
            left_out = one.payload.left_out + decoded.rejected[index]
            mended = one.payload.mended + decoded.mended[index]
            self.answers.append(_answer(form, left_out, mended))
        self.put(_TABLES[form.signal], decoded.table)
        self.put("resources", decoded.resources)
        if decoded.series is not None:
            self.put("series", decoded.series)

    def put(self, table: str, rows: pa.Table) -> None:
        """Have rows stored with the group."""
        self.tables.setdefault(table, []).append(rows)

    def merge(self, other: "Group") -> None:
        """Take over everything of another group."""
        self.waiting += other.waiting
        self.answers += other.answers
        for name, tables in other.tables.items():
            self.tables.setdefault(name, []).extend(tables)

    def joined(self, table: str) -> pa.Table | None:
        """All rows for a table as one; ``None`` if there are none."""
        tables = self.tables.get(table)
        return pa.concat_tables(tables) if tables else None


def _answer(form: Format, left_out: int, mended: int) -> Accepted:
    reasons = []
    if left_out:
        reasons.append(form.left_out)
    if mended:
        reasons.append(f"mended: {mended} records had nulls in lists, or texts that are no Unicode")
    return Accepted(left_out, "; ".join(reasons))
