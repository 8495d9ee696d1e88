"""The last stage: one transaction for a group, and only then the acks."""

import logging
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from heatshield.clock import Clock
from heatshield_collector.intake.payload import OverloadedError
from heatshield_collector.pipeline.group import BUSY_RETRY_S, Charges, Group, Release
from heatshield_collector.store import StoreFullError, TelemetryStore

__all__ = ["FULL_RETRY_S", "GroupCommitter"]

_log = logging.getLogger(__name__)

FULL_RETRY_S: Final = 5.0
"""Seconds after which a sender may try again when the disk was full."""


class GroupCommitter:
    """Makes groups durable and answers their senders.

    Args:
        store: where groups become durable.
        charges: told of each durable group.
        clock: measures how long senders waited.
        release: called before payloads are answered.
    """

    def __init__(
        self, store: TelemetryStore, charges: Charges, clock: Clock, release: Release
    ) -> None:
        self._store = store
        self._charges = charges
        self._clock = clock
        self._release = release

    def commit(self, group: Group) -> None:
        """Store the tables of a group in one transaction, then settle its acks."""
        try:
            tables = {name: pa.concat_tables(rows) for name, rows in group.tables.items()}
            self._store.append(tables)
        except Exception as error:  # noqa: BLE001 - the senders are told, and the pipeline goes on
            _log.exception("a group of %d payloads was not stored", len(group.waiting))
            retry_s = FULL_RETRY_S if isinstance(error, StoreFullError) else BUSY_RETRY_S
            self._release(group.waiting)
            self._note_not_stored(group)
            for one in group.waiting:
                one.ack.refuse(OverloadedError(retry_s, str(error)))
            return
        self._release(group.waiting)
        for one, answer in zip(group.waiting, group.answers, strict=True):
            one.ack.accept(answer)
        self._count(group, tables)

    def _note_not_stored(self, group: Group) -> None:
        # Before the senders are told: they may deliver again at once.
        spans = group.joined("spans")
        if spans is None:
            return
        try:
            self._charges.not_stored(spans)
        except Exception:  # noqa: BLE001 - the senders must be told in any case
            _log.exception("noting that a group was not stored failed")

    def _count(self, group: Group, tables: Mapping[str, pa.Table]) -> None:
        rows = {name: table.num_rows for name, table in tables.items()}
        waited_s = self._clock.monotonic() - min(one.since_s for one in group.waiting)
        try:
            self._charges.committed(rows, waited_s)
        except Exception:  # noqa: BLE001 - the group is durable, and the pipeline goes on
            _log.exception("counting a commit failed")
