"""The embedded store: one DuckDB file, one transaction a commit."""

from collections.abc import Mapping
from pathlib import Path

from heatshield.clock import Instant
from heatshield_collector.model import TABLES
from heatshield_collector.store.believed_time import BelievedTime
from heatshield_collector.store.duckdb import retention
from heatshield_collector.store.duckdb.control import Control
from heatshield_collector.store.duckdb.database import Database
from heatshield_collector.store.duckdb.telemetry import Telemetry

__all__ = ["DuckDBStore"]


class DuckDBStore(Telemetry, Control):
    """Implements :class:`heatshield_collector.store.protocol.Store` on one DuckDB file.

    Args:
        folder: where the file lives; made if it is absent.
        limits: how long and how much is kept.
        threads: processors that DuckDB may use for one statement; see
            :class:`~heatshield_collector.store.duckdb.database.Database`.

    Raises:
        StoreError: when the folder can't be written, another process has the file, or it was
            written by a newer heatshield.
    """

    def __init__(
        self, folder: Path, limits: retention.Limits | None = None, threads: int = 1
    ) -> None:
        self._limits = limits or retention.Limits()
        self._folded_ns = 0
        self._time = BelievedTime()
        Telemetry.__init__(self, Database(folder, threads))
        # Read before anything is written: the clock has not been checked yet.
        with self._database.reading() as cursor:
            self._newest_at_start_ns = retention.newest_ns(cursor)

    def sizes(self) -> Mapping[str, int]:
        """Rows by table, and ``bytes`` in use on disk."""
        with self._database.reading() as cursor:
            counts = {name: retention.count(cursor, name) for name in TABLES}
            return {**counts, "bytes": retention.used_bytes(cursor)}

    def used_bytes(self) -> int:
        """Bytes in use on disk; no table is looked at."""
        with self._database.reading() as cursor:
            return retention.used_bytes(cursor)

    def expire(self, now: Instant) -> int:
        """Fold old parts of requests into one row each and apply retention; rows let go."""
        with self._database.reading() as cursor:
            far = retention.far_apart(cursor, self._folded_ns, now.epoch_ns)
        with self._database.maintenance() as cursor:
            self._folded_ns = retention.fold_requests(cursor, self._folded_ns, now.epoch_ns, far)
            gone = 0
            if self._time.believed(now, self._newest_at_start_ns):
                gone = retention.expire_old(cursor, self._limits.age_ns, now.epoch_ns)
            gone += retention.expire_excess(cursor, self._limits.size_bytes)
            if gone:
                retention.keep_used_series(cursor)
                many = self.known_resources > retention.RESOURCES_MANY
                self.forget_known(retention.keep_used_resources(cursor) if many else None)
        return gone

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        self._database.close()
