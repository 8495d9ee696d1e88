"""Lines of the clients' logs, and of what the collector granted, as values."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heatshield.contract import StateVersion

__all__ = ["Grant", "Record", "grants", "read"]


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a client's log.

    Attributes:
        what: began, hot, applied, decision or ran.
        at: monotonic seconds, the same for all processes of a machine.
        ns: since the Unix epoch.
        fields: the rest.
    """

    what: str
    at: float
    ns: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> StateVersion | None:
        """That the client was at."""
        text = self.fields.get("version")
        return StateVersion.parse(text) if text and text != "None" else None

    @property
    def refused(self) -> bool:
        """Whether a call was refused by an entry."""
        return self.what == "decision" and not self.fields["allowed"]

    @property
    def key(self) -> tuple[str, str]:
        """User and call of a decision."""
        return self.fields["user"], self.fields["call"]


@dataclass(slots=True)
class Grant:
    """An entry that the collector held.

    Attributes:
        id: of the entry.
        key: user, service and call.
        from_ns, until_ns: since the Unix epoch; ``None`` while it is held.
        lease_s: for which clients may enforce it.
    """

    id: str
    key: tuple[str, str, str]
    from_ns: int
    lease_s: float
    until_ns: int | None = None


def read(path: Path, since_s: float = float("-inf")) -> list[Record]:
    """The records of a log; a line that is being written is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        row = json.loads(line)
        what, at, ns = row.pop("what"), row.pop("at"), row.pop("ns")
        if at >= since_s:
            found.append(Record(what, at, ns, row))
    return found


ENDS = frozenset({"cleared", "closed"})


def grants(audit: Iterable[Mapping[str, Any]]) -> dict[str, Grant]:
    """What was granted, by entry id, of the rows of the collector's audit in any order."""
    found: dict[str, Grant] = {}
    for row in sorted(audit, key=lambda row: row["at_ns"]):
        entry, name = row["entry"], row["entry_id"]
        if not name:
            continue
        lease_s = entry["lease_ms"] / 1_000
        key = (entry["user"], entry["service"], entry["call"])
        grant = found.setdefault(name, Grant(name, key, row["at_ns"], lease_s))
        grant.lease_s = max(grant.lease_s, lease_s)
        grant.until_ns = row["at_ns"] if row["change"] in ENDS else None
    return found
