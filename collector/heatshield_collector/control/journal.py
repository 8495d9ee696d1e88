"""Writes findings, alerts and audit records to the store, off the threads that decide.

What decides must not wait for a disk. Rows are queued in bounded memory and written in one
transaction as soon as the store is free.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from heatshield.clock import Clock
from heatshield_collector.model import TABLES
from heatshield_collector.store import ControlStore

__all__ = ["Journal"]

_log = logging.getLogger(__name__)

ROWS_MOST: Final = 10_000
"""Rows that wait for the store; some minutes of the most that caps allow."""

AGAIN_S: Final = 5.0
"""Seconds after which what could not be written is tried again."""


Row = tuple[str, dict[str, Any]]
"""A table, and a row of it."""

Kept = dict[str, dict[str, str | None]]
"""By kind and key: the text from now on, or ``None``: no longer any."""


class Journal:
    """One thread that writes rows to journals. Implements :class:`~.outlets.Writes`.

    Args:
        store: where they become durable.
        clock: what the thread waits on.

    Attributes:
        dropped: rows that found no room or that the store refused.
    """

    def __init__(self, store: ControlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changed = threading.Condition()
        self._rows: deque[Row] = deque()
        self._kept: Kept = {}
        self._news = self._stopping = self._is_last = False
        self._thread = threading.Thread(target=self._run, name="heatshield-journal", daemon=True)
        self.dropped = 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Queue a row of ``findings``, ``alerts`` or ``audit``; objects in it are kept as JSON.

        A row that finds no room is dropped.
        """
        texts = {
            name: json.dumps(value, default=str) if isinstance(value, dict | list) else value
            for name, value in row.items()
        }
        with self._changed:
            if len(self._rows) < ROWS_MOST:
                self._rows.append((table, texts))
            else:
                self.dropped += 1
            self._news = True
            self._changed.notify()

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        """Queue texts for the next start; of a key only the newest waits."""
        if not changed:
            return
        with self._changed:
            self._kept.setdefault(kind, {}).update(changed)
            self._news = True
            self._changed.notify()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            rows, kept = taken
            if rows:
                self._append(rows)
            for kind, changed in kept.items():
                self._keep(kind, changed)

    def _take(self) -> tuple[list[Row], Kept] | None:
        """All rows that wait, and what is kept by now; ``None`` when it stops.

        What could not be kept is tried again after a while, and once more at the end: else the
        next start would go on with what has ended.
        """
        with self._changed:
            failed = bool(self._kept) and not self._news
            again_s = AGAIN_S if failed else None
            self._clock.wait_for(self._changed, lambda: self._news or self._stopping, again_s)
            if not self._news and self._stopping and (self._is_last or not failed):
                return None
            self._is_last = self._stopping and failed
            rows, kept = list(self._rows), self._kept
            self._rows.clear()
            self._kept, self._news = {}, False
        return rows, kept

    def _keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        try:
            self._store.keep(kind, changed)
        except Exception:  # noqa: BLE001 - it is tried again
            _log.exception("%d states of the kind %s were not stored", len(changed), kind)
            with self._changed:
                self._kept[kind] = {**changed, **self._kept.get(kind, {})}

    def _append(self, rows: Sequence[Row]) -> None:
        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        try:
            journals = {
                table: pa.Table.from_pylist(found, schema=TABLES[table])
                for table, found in by_table.items()
            }
            self._store.record(journals)
        except Exception:  # noqa: BLE001 - whatever a row held, the next ones are written
            self.dropped += len(rows)
            _log.exception("%d journal rows were not stored", len(rows))
