"""What the collector decided, in the embedded store: journals, states, epochs, baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple

import pyarrow as pa

from heatshield.call_key import CallKey
from heatshield_alerts.restart import HeldEntry
from heatshield_collector.store.duckdb.database import Database
from heatshield_collector.store.protocol import (
    JOURNALS,
    Baseline,
    FindingQuery,
    KeptMode,
    Row,
    StoreError,
)

__all__ = ["Control"]


class Control:
    """Implements :class:`heatshield_collector.store.protocol.ControlStore` on an open file.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, journals: Mapping[str, pa.Table]) -> None:
        """Write rows of journals in one transaction."""
        with self._database.transaction():
            for name, rows in journals.items():
                if name not in JOURNALS:
                    raise StoreError(f"{name!r} is not a journal")
                self._database.insert(name, rows)

    def held(self) -> Sequence[HeldEntry]:
        """The entries that an older version left held, the oldest first. This one keeps them in a
        file of their own.
        """
        found = self._database.select("SELECT entry, at_ns FROM held_entries ORDER BY at_ns, key")
        return [HeldEntry(*row) for row in found]

    def forget_held(self) -> None:
        """Let go of :meth:`held`, once it is kept elsewhere: what ends later must not come back."""
        if self.held():
            with self._database.transaction() as writer:
                writer.execute("DELETE FROM held_entries")

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        """Keep small texts of one kind; each replaces what its key had."""
        if not changed:
            return
        rows = [(kind, key, text) for key, text in changed.items() if text is not None]
        with self._database.transaction() as writer:
            writer.execute(
                "DELETE FROM kept WHERE kind = $kind AND key IN (SELECT unnest($keys))",
                {"kind": kind, "keys": list(changed)},
            )
            if rows:
                writer.executemany("INSERT INTO kept VALUES (?, ?, ?)", rows)

    def kept(self, kind: str) -> Mapping[str, str]:
        """What was kept of one kind, by key, sorted by it."""
        question = "SELECT key, value FROM kept WHERE kind = $kind ORDER BY key"
        return dict(self._database.select(question, {"kind": kind}))

    def recent(self, table: str, limit: int) -> Sequence[Row]:
        """The newest rows of findings, alerts or audit, newest first."""
        if table not in JOURNALS:
            raise StoreError(f"{table!r} is not a journal")
        return self._database.rows(
            f"SELECT * FROM {table} ORDER BY at_ns DESC, rowid DESC LIMIT $limit",  # noqa: S608 - one of three names
            {"limit": limit},
        )

    def findings(self, query: FindingQuery) -> Sequence[Row]:
        """Of each finding the row that was written last, newest first."""
        wanted = {"klass": "class", "user": '"user"', "service": "service"}
        values = {name: value for name in wanted if (value := getattr(query, name)) is not None}
        tests = "".join(f" AND {wanted[name]} = ${name}" for name in values)
        return self._database.rows(
            "SELECT * FROM (SELECT * FROM findings "  # noqa: S608 - names of this file
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY rowid DESC) = 1) "
            f"WHERE NOT list_contains($leave_out, id) {tests} "
            "ORDER BY coalesce(opened_ns, at_ns) DESC, id DESC LIMIT $limit",
            {**values, "leave_out": list(query.leave_out), "limit": query.limit},
        )

    def next_epoch(self, at_least: int) -> int:
        """A number of at least this that is greater than any given before, durable on return."""
        with self._database.transaction() as writer:
            found = writer.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
            epoch = max(at_least, int(found[0]) + 1 if found else 1)
            writer.execute("DELETE FROM meta WHERE name = 'epoch'")
            writer.execute("INSERT INTO meta VALUES ('epoch', ?)", [epoch])
        return epoch

    def keep_mode(self, kept: KeptMode) -> None:
        """Keep the platform's mode over a restart, in place of what was kept."""
        with self._database.transaction() as writer:
            writer.execute("DELETE FROM kept_mode")
            writer.execute("INSERT INTO kept_mode VALUES (?, ?, ?, ?)", list(astuple(kept)))

    def kept_mode(self) -> KeptMode | None:
        """The mode that was kept last; ``None``: a person has set none yet."""
        found = self._database.select('SELECT mode, configured, at_ns, "by" FROM kept_mode')
        return KeptMode(*found[0]) if found else None

    def keep_baselines(self, baselines: Sequence[Baseline]) -> None:
        """Keep these; each replaces what its key had."""
        if not baselines:
            return
        rows = {one.key.text: (one.key.text, one.load, one.at_ns) for one in baselines}
        with self._database.transaction() as writer:
            writer.execute(
                "DELETE FROM baselines WHERE key IN (SELECT unnest($keys))", {"keys": list(rows)}
            )
            writer.executemany("INSERT INTO baselines VALUES (?, ?, ?)", list(rows.values()))

    def baselines(self) -> Sequence[Baseline]:
        """What was kept, one a key, sorted by the key's text."""
        found = self._database.select("SELECT key, load, at_ns FROM baselines ORDER BY key")
        return [Baseline(CallKey.parse(key), load, at_ns) for key, load, at_ns in found]
