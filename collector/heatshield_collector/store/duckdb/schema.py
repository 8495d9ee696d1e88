"""The embedded store's tables, as a list of migrations: a file of any older version is brought up
to date in one transaction when it is opened; a file of a newer version is refused untouched.

To change the schema append a migration; never edit one that has been released.
"""

from typing import Final

import duckdb

from heatshield_collector.store.protocol import StoreError

__all__ = ["MIGRATIONS", "fill_services", "migrate"]

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE spans (
        trace_id BLOB NOT NULL, span_id BLOB NOT NULL, parent_span_id BLOB NOT NULL,
        service VARCHAR NOT NULL, instance VARCHAR NOT NULL, name VARCHAR NOT NULL,
        kind TINYINT NOT NULL, start_ns BIGINT NOT NULL, duration_ns BIGINT NOT NULL,
        status TINYINT NOT NULL, status_message VARCHAR NOT NULL, "user" VARCHAR, call VARCHAR,
        backend VARCHAR, rejected VARCHAR, elements BIGINT NOT NULL, "rows" BIGINT NOT NULL,
        bytes BIGINT NOT NULL, attribute_keys VARCHAR NOT NULL, attribute_values VARCHAR NOT NULL,
        events VARCHAR, links VARCHAR, scope VARCHAR NOT NULL, trace_state VARCHAR NOT NULL,
        flags BIGINT NOT NULL, dropped BIGINT NOT NULL, resource_id BIGINT NOT NULL,
        received_ns BIGINT NOT NULL
    );
    CREATE TABLE logs (
        trace_id BLOB NOT NULL, span_id BLOB NOT NULL, service VARCHAR NOT NULL,
        instance VARCHAR NOT NULL, time_ns BIGINT NOT NULL, severity TINYINT NOT NULL,
        severity_text VARCHAR NOT NULL, body VARCHAR NOT NULL, event_name VARCHAR NOT NULL,
        "user" VARCHAR, attribute_keys VARCHAR NOT NULL, attribute_values VARCHAR NOT NULL,
        scope VARCHAR NOT NULL, flags BIGINT NOT NULL, dropped BIGINT NOT NULL,
        resource_id BIGINT NOT NULL, received_ns BIGINT NOT NULL
    );
    CREATE TABLE resources (
        resource_id BIGINT NOT NULL, attribute_keys VARCHAR NOT NULL,
        attribute_values VARCHAR NOT NULL
    );
    CREATE TABLE request_parts (
        trace_id BLOB NOT NULL, start_ns BIGINT NOT NULL, end_ns BIGINT NOT NULL, "user" VARCHAR,
        user_rank TINYINT NOT NULL, service VARCHAR, call VARCHAR, spans INTEGER NOT NULL,
        errors INTEGER NOT NULL, busy_ns BIGINT NOT NULL, elements BIGINT NOT NULL,
        received_ns BIGINT NOT NULL, last_received_ns BIGINT NOT NULL
    );
    CREATE TABLE findings (
        id VARCHAR NOT NULL, class VARCHAR NOT NULL, "user" VARCHAR NOT NULL,
        service VARCHAR NOT NULL, call VARCHAR NOT NULL, cost VARCHAR NOT NULL,
        "window" VARCHAR NOT NULL, load DOUBLE NOT NULL, at_ns BIGINT NOT NULL,
        trace_ids VARCHAR NOT NULL, reason VARCHAR NOT NULL
    );
    CREATE TABLE alerts (
        name VARCHAR NOT NULL, state VARCHAR NOT NULL, labels VARCHAR NOT NULL,
        annotations VARCHAR NOT NULL, value DOUBLE, at_ns BIGINT NOT NULL
    );
    CREATE TABLE audit (
        at_ns BIGINT NOT NULL, change VARCHAR NOT NULL, entry_id VARCHAR NOT NULL,
        issuer VARCHAR NOT NULL, reason VARCHAR NOT NULL, version VARCHAR NOT NULL,
        entry VARCHAR NOT NULL
    );
    """,
    """
    CREATE TABLE series (
        series_id BIGINT NOT NULL, name VARCHAR NOT NULL, kind VARCHAR NOT NULL,
        temporality VARCHAR NOT NULL, unit VARCHAR NOT NULL, description VARCHAR NOT NULL,
        service VARCHAR NOT NULL, instance VARCHAR NOT NULL, attribute_keys VARCHAR NOT NULL,
        attribute_values VARCHAR NOT NULL, bounds DOUBLE[], scope VARCHAR NOT NULL,
        resource_id BIGINT NOT NULL
    );
    CREATE TABLE samples (
        series_id BIGINT NOT NULL, time_ns BIGINT NOT NULL, start_ns BIGINT NOT NULL,
        value DOUBLE, "count" BIGINT, bucket_counts BIGINT[], exemplars VARCHAR,
        received_ns BIGINT NOT NULL
    );
    """,
    # What breakers held in older versions, which is what the newest record of the audit says of
    # each key; control/state_file.py has it now. CallKey.text is tenant, service, call and user,
    # joined by U+001F, which is left out of all but the user.
    """
    CREATE TABLE held_entries (
        key VARCHAR NOT NULL, entry VARCHAR NOT NULL, at_ns BIGINT NOT NULL
    );
    CREATE TABLE baselines (
        key VARCHAR NOT NULL, load DOUBLE NOT NULL, at_ns BIGINT NOT NULL
    );
    INSERT INTO held_entries
    SELECT key, entry, at_ns FROM (
        SELECT replace(coalesce(entry ->> '$.tenant', 'default'), chr(31), '') || chr(31)
            || replace(entry ->> '$.service', chr(31), '') || chr(31)
            || replace(entry ->> '$.call', chr(31), '') || chr(31)
            || (entry ->> '$.user') AS key, entry, at_ns, change
        FROM audit
        WHERE change IN ('opened', 'renewed', 'closed', 'cleared') AND json_valid(entry)
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY at_ns DESC, audit.rowid DESC) = 1
    )
    WHERE change IN ('opened', 'renewed') AND key IS NOT NULL;
    """,
    # Requests are found by service without a look at spans, of which there are many more; see
    # :func:`fill_services` for those that were stored before.
    "ALTER TABLE request_parts ADD COLUMN services VARCHAR[];",
    # One row at most.
    """
    CREATE TABLE kept_mode (
        mode VARCHAR NOT NULL, configured VARCHAR NOT NULL, at_ns BIGINT NOT NULL,
        "by" VARCHAR NOT NULL
    );
    """,
    # What goes on over a restart: states of alerts, and what targets were told of them.
    """
    CREATE TABLE kept (kind VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL);
    """,
    # A finding has a life, and an overload has no user.
    """
    ALTER TABLE findings ALTER COLUMN "user" DROP NOT NULL;
    ALTER TABLE findings ADD COLUMN action VARCHAR;
    ALTER TABLE findings ADD COLUMN resource VARCHAR;
    ALTER TABLE findings ADD COLUMN baseline DOUBLE;
    ALTER TABLE findings ADD COLUMN figures VARCHAR;
    ALTER TABLE findings ADD COLUMN thresholds VARCHAR;
    ALTER TABLE findings ADD COLUMN victims VARCHAR;
    ALTER TABLE findings ADD COLUMN worst VARCHAR;
    ALTER TABLE findings ADD COLUMN opened_ns BIGINT;
    ALTER TABLE findings ADD COLUMN updated_ns BIGINT;
    ALTER TABLE findings ADD COLUMN closed_ns BIGINT;
    """,
)


SLICE_NS: Final = 600 * 10**9
"""Ten minutes of telemetry: some millions of spans at most, whose services fit into memory."""


def fill_services(connection: duckdb.DuckDBPyConnection) -> None:
    """Tell requests that have no services yet those of their spans, ten minutes at a time.

    A file of an older version may hold more than memory does, so this is no migration: what a kill
    interrupts goes on when the file is opened next.
    """
    unfilled = "SELECT min(received_ns) FROM request_parts WHERE services IS NULL"
    # All of it is fetched: an answer that is not read to its end would hold its snapshot, and no
    # checkpoint would free what is deleted later.
    while (since_ns := connection.execute(unfilled).fetchall()[0][0]) is not None:
        until_ns = since_ns + SLICE_NS
        connection.execute(
            """
            UPDATE request_parts SET services = coalesce(found.services, []) FROM (
                SELECT parts.trace_id, list_sort(
                    list(DISTINCT spans.service) FILTER (spans.service IS NOT NULL)
                ) AS services
                FROM request_parts AS parts LEFT JOIN spans
                  ON spans.trace_id = parts.trace_id
                 AND spans.received_ns BETWEEN $since AND $until_reach
                WHERE parts.services IS NULL AND parts.received_ns BETWEEN $since AND $until
                GROUP BY parts.trace_id
            ) AS found
            WHERE found.trace_id = request_parts.trace_id AND request_parts.services IS NULL
              AND request_parts.received_ns BETWEEN $since AND $until
            """,
            {"since": since_ns, "until": until_ns, "until_reach": until_ns + SLICE_NS},
        )


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Bring an open file to the newest version.

    Raises:
        StoreError: when the file was written by a newer heatshield.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS meta (name VARCHAR NOT NULL, value BIGINT NOT NULL)"
    )
    found = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    version = found[0] if found else 0
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store has schema version {version}, this heatshield knows {len(MIGRATIONS)}: "
            "use the newer heatshield that wrote it, or another folder (--data)"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.begin()
        connection.execute(script)
        connection.execute("DELETE FROM meta WHERE name = 'schema_version'")
        connection.execute("INSERT INTO meta VALUES ('schema_version', ?)", [number])
        connection.commit()
