"""What the embedded store lets go of, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from heatshield_collector.model import TABLES
from heatshield_collector.store.protocol import JOURNALS

__all__ = [
    "PARTS_APART_NS",
    "RESOURCES_MANY",
    "ROOT",
    "SUMMED",
    "USER",
    "Limits",
    "count",
    "expire_excess",
    "expire_old",
    "far_apart",
    "fold_requests",
    "keep_used_resources",
    "keep_used_series",
    "newest_ns",
    "used_bytes",
]

PARTS_APART_NS: Final = 10 * 60 * 10**9
"""Who reads requests adds up parts that are at most this far from one that is found, as far as
nothing of the request, such as its root, lasts from one to the other. Parts that are further apart,
such as those of a job that was put off, become one row before long."""

FOLD_AFTER_NS: Final = 60 * 10**9
"""A request is quiet after a minute: pending charges are kept no longer either."""

FOLD_AT_ONCE_NS: Final = 3600 * 10**9
"""How far back parts are looked for that are not folded yet, such as after a restart. What is older
stays in several rows, which read the same."""

USER: Final = 'substr(min(chr(user_rank + 1) || "user"), 2)'
"""Of the parts of a request, the user of the lowest rank; of one rank the first by name, as the
link station decides. It looks at nothing that a fold loses, so a fold changes no answer. Ranks are
few and not negative, so one character orders them; a pair costs half as much again."""

ROOT: Final = "(min({'service': service, 'call': call}) FILTER (service IS NOT NULL))"
"""The root's service and call, from one part. Of several roots the first by name."""

SUMMED: Final = f"""
    min(start_ns) AS start_ns, max(end_ns) AS end_ns,
    {USER} AS "user", min(user_rank) AS user_rank,
    {ROOT}.service AS service, {ROOT}.call AS call,
    sum(spans)::BIGINT AS spans, sum(errors)::BIGINT AS errors,
    sum(busy_ns)::BIGINT AS busy_ns, sum(elements)::BIGINT AS elements,
    min(received_ns) AS received_ns, max(last_received_ns) AS last_received_ns,
    list_sort(list_distinct(flatten(list(services)))) AS services
"""
"""What the parts of one request say together, as columns of ``request_parts``."""

SLICE: Final = 10
"""A store that is too large gives up this fraction (one tenth) of its rows at once. Not of its time
span: one row stamped while the clock was days ahead would make nine tenths of the span empty."""

AGED: Final = ("spans", "logs", "samples", "request_parts")
"""Tables that retention by size and age applies to; journals are small, and kept ten times as
long."""

STATE_AGES_NS: Final = {"held_entries": 3_600 * 10**9, "baselines": 30 * 86_400 * 10**9}
"""State that is of no use when it is older: no entry is held for an hour without a renewal, and a
user who has not been seen for a month has no usual load."""

RESOURCES_MANY: Final = 10_000
"""Resources from which on it is worth a look over all spans and logs which are still used: there is
one a process, unless a sender makes them up."""

SERIES_MANY: Final = 10_000
"""Series from which on it is worth a look which still have samples: each process has its own."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much telemetry is kept.

    Attributes:
        age_ns: telemetry older than this is let go; journals live ten times as long.
        size_bytes: size in use on disk at which the oldest telemetry is let go.
    """

    age_ns: int = 72 * 3600 * 10**9
    size_bytes: int = 20 * 2**30


def count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    """Rows of a table."""
    if table not in TABLES:
        raise ValueError(f"there is no table {table!r}")
    found = cursor.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608 - a known name
    return int(found[0]) if found else 0


def used_bytes(cursor: duckdb.DuckDBPyConnection) -> int:
    """Bytes of the file that hold something, and of its write-ahead log."""
    found = cursor.execute(
        "SELECT path, block_size * used_blocks "
        "FROM duckdb_databases() JOIN pragma_database_size() USING (database_name) "
        "WHERE NOT internal AND path IS NOT NULL"
    ).fetchone()
    return int(found[1]) + _file_bytes(Path(f"{found[0]}.wal")) if found else 0


def _file_bytes(path: Path) -> int:
    """Size of a file that may be folded away at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _fold_times(since_ns: int, now_ns: int) -> dict[str, int]:
    quiet_ns = now_ns - FOLD_AFTER_NS
    # A clock that was ahead and went back must not end folding until it gets there again.
    since_ns = max(since_ns if since_ns <= quiet_ns else 0, quiet_ns - FOLD_AT_ONCE_NS)
    return {"since": since_ns, "quiet": quiet_ns}


_TO_FOLD: Final = "received_ns > $since AND received_ns <= $quiet"


def far_apart(cursor: duckdb.DuckDBPyConnection, since_ns: int, now_ns: int) -> list[bytes]:
    """Requests of which more came long after their earlier parts had ended.

    It looks for earlier parts of requests whose root is not among what is to be folded: of few
    requests, but through all that is kept. So it is asked where no commit waits for the answer.

    Args:
        cursor: on the store, for reading.
        since_ns: as for :func:`fold_requests`, which is to be called next.
        now_ns: the time.

    Returns:
        Their trace ids.
    """
    found = cursor.execute(
        f"""
        SELECT DISTINCT earlier.trace_id FROM request_parts AS earlier JOIN (
            SELECT trace_id, min(start_ns) AS start_ns FROM request_parts WHERE {_TO_FOLD}
            GROUP BY trace_id HAVING count(service) = 0
        ) AS later USING (trace_id)
        WHERE earlier.received_ns <= $since AND earlier.end_ns < later.start_ns - $apart
        """,  # noqa: S608 - this file's own text
        {**_fold_times(since_ns, now_ns), "apart": PARTS_APART_NS},
    )
    return [trace_id for (trace_id,) in found.fetchall()]


def fold_requests(
    cursor: duckdb.DuckDBPyConnection, since_ns: int, now_ns: int, far: Sequence[bytes] = ()
) -> int:
    """Make one row of what came of each request in a span of time that ended a minute ago.

    Each part is looked at once, so this takes as long however much is kept. A request of which
    more comes later has a row more, but for those that are named.

    Args:
        cursor: on the store.
        since_ns: what the last call returned, 0 for the first.
        now_ns: the time.
        far: requests of which everything is to become one row: what :func:`far_apart` found.

    Returns:
        What was received until then is folded, in nanoseconds since the Unix epoch.
    """
    times = _fold_times(since_ns, now_ns)
    before = "received_ns <= $since AND trace_id IN (SELECT unnest($far))"
    with_far = {"since": times["since"], "far": list(far)}
    more = f"UNION ALL SELECT * FROM request_parts WHERE {before}" if far else ""  # noqa: S608 - as below
    cursor.begin()
    cursor.execute(
        f"CREATE OR REPLACE TEMP TABLE folded AS SELECT trace_id, {SUMMED} FROM "  # noqa: S608 - this file's own text
        f"(SELECT * FROM request_parts WHERE {_TO_FOLD} {more}) "
        "GROUP BY trace_id HAVING count(*) > 1",
        times | (with_far if far else {}),
    )
    cursor.execute(
        f"DELETE FROM request_parts WHERE {_TO_FOLD} "  # noqa: S608 - as above
        "AND trace_id IN (SELECT trace_id FROM folded)",
        times,
    )
    if far:
        cursor.execute(f"DELETE FROM request_parts WHERE {before}", with_far)  # noqa: S608 - as above
    cursor.execute("INSERT INTO request_parts BY NAME SELECT * FROM folded")
    cursor.execute("DROP TABLE folded")
    cursor.commit()
    return times["quiet"]


def newest_ns(cursor: duckdb.DuckDBPyConnection) -> int | None:
    """When the newest row of telemetry or of a journal was written; ``None``: there is none."""
    columns = {**dict.fromkeys(AGED, "received_ns"), **dict.fromkeys(JOURNALS, "at_ns")}
    each = " UNION ALL ".join(
        f"SELECT max({column}) AS newest FROM {name}"  # noqa: S608 - this file's own names
        for name, column in columns.items()
    )
    ((found,),) = cursor.execute(f"SELECT max(newest) FROM ({each})").fetchall()  # noqa: S608 - as above
    return None if found is None else int(found)


def expire_old(cursor: duckdb.DuckDBPyConnection, age_ns: int, now_ns: int) -> int:
    """Let go of what is too old; rows let go."""
    gone = sum(_delete(cursor, name, "received_ns", now_ns - age_ns) for name in AGED)
    gone += sum(_delete(cursor, name, "at_ns", now_ns - 10 * age_ns) for name in JOURNALS)
    for name, state_age_ns in STATE_AGES_NS.items():
        _delete(cursor, name, "at_ns", now_ns - state_age_ns)
    return gone


def expire_excess(cursor: duckdb.DuckDBPyConnection, size_bytes: int) -> int:
    """Let go of the oldest while there is too much; rows let go."""
    if used_bytes(cursor) <= size_bytes:
        return 0
    gone = 0
    cursor.execute("CHECKPOINT")
    for _ in range(SLICE):
        if used_bytes(cursor) <= size_bytes:
            break
        gone += _delete_oldest_slice(cursor)
        cursor.execute("CHECKPOINT")
    return gone


def keep_used_resources(cursor: duckdb.DuckDBPyConnection) -> set[int]:
    """Let go of resources that no span, log or series is of; the ids that are left."""
    cursor.execute(
        "DELETE FROM resources WHERE resource_id NOT IN "
        "(SELECT resource_id FROM spans UNION SELECT resource_id FROM logs "
        "UNION SELECT resource_id FROM series)"
    )
    return {row[0] for row in cursor.execute("SELECT resource_id FROM resources").fetchall()}


def keep_used_series(cursor: duckdb.DuckDBPyConnection) -> None:
    """Let go of series that have no sample any more."""
    if count(cursor, "series") > SERIES_MANY:
        cursor.execute(
            "DELETE FROM series WHERE series_id NOT IN (SELECT DISTINCT series_id FROM samples)"
        )


def _delete_oldest_slice(cursor: duckdb.DuckDBPyConnection) -> int:
    """Whichever of them fills the disk: a sender of logs alone must not fill it for good."""
    times = " UNION ALL ".join(
        f"SELECT received_ns FROM {name}"  # noqa: S608 - this file's own names
        for name in AGED
    )
    found = cursor.execute(
        f"SELECT min(received_ns), approx_quantile(received_ns, {1 / SLICE}) FROM ({times})"  # noqa: S608 - as above
    ).fetchone()
    if not found or found[0] is None:
        return 0
    cutoff = max(found[0] + 1, found[1])
    return sum(_delete(cursor, name, "received_ns", cutoff) for name in AGED)


def _delete(cursor: duckdb.DuckDBPyConnection, table: str, column: str, before_ns: int) -> int:
    found = cursor.execute(
        f'DELETE FROM "{table}" WHERE {column} < $before',  # noqa: S608 - this file's own names
        {"before": before_ns},
    ).fetchone()
    return int(found[0]) if found else 0
