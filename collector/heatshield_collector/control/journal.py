"""Writes findings, alerts and audit records to the store, off the threads that decide.

What decides must not wait for a disk. Rows are queued in bounded memory and written in one
transaction as soon as the store is free.
"""

import json
import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from heatshield_collector.model import TABLES
from heatshield_collector.store import Store

__all__ = ["Journal"]

_log = logging.getLogger(__name__)

ROWS_MOST: Final = 10_000
"""Rows that wait for the store; some minutes of the most that caps allow."""


class Journal:
    """One thread that writes rows to journals.

    Attributes:
        dropped: rows that found no room or that the store refused.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(ROWS_MOST)
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
        self._rows.put(None)
        self._thread.join()

    def write(self, table: str, row: Mapping[str, Any]) -> None:
        """Queue a row of ``findings``, ``alerts`` or ``audit``; objects in it are kept as JSON."""
        texts = {
            name: json.dumps(value, default=str) if isinstance(value, dict | list) else value
            for name, value in row.items()
        }
        try:
            self._rows.put_nowait((table, texts))
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        running = True
        while running:
            taken = [self._rows.get()]
            while not self._rows.empty():
                taken.append(self._rows.get())
            running = None not in taken
            self._append([row for row in taken if row is not None])

    def _append(self, rows: list[tuple[str, dict[str, Any]]]) -> None:
        by_table: dict[str, list[dict[str, Any]]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        try:
            self._store.append(
                {
                    table: pa.Table.from_pylist(found, schema=TABLES[table])
                    for table, found in by_table.items()
                }
            )
        except Exception:  # noqa: BLE001 - whatever a row held, the next ones are written
            self.dropped += len(rows)
            _log.exception("%d journal rows were not stored", len(rows))
