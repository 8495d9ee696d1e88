"""The columnar model: the Arrow schemas that flow from decode to store, and their codecs.

One row of :data:`SPANS` is one span as it was received, one row of :data:`LOGS` one log record. Ids
are raw bytes (16 and 8), times are nanoseconds since the Unix epoch, durations nanoseconds.

Attributes are kept as two texts a row, because a DuckDB ``MAP`` costs four times as much to insert
(6 against 1.5 µs a span, measured with 9 attributes): ``attribute_keys`` names the row's shape, for
example ``s:http.method␟i:http.status_code``, and repeats for nearly every row, so the store keeps
it once; ``attribute_values`` has the values in the same order. ␟ is the unit separator, U+001F. The
letter before a key is the value's kind:

====== ================ =========================================
letter OTLP             text
====== ================ =========================================
``s``  string           as it is
``i``  int              decimal
``d``  double           shortest text that reads back the same
``b``  bool             ``true`` or ``false``
``x``  bytes            hexadecimal
``j``  array, kvlist    JSON; bytes inside as ``{"bytes": "<hex>"}``
``n``  no value         empty
====== ================ =========================================

A separator inside a key or a value is escaped: U+001E becomes U+001E ``0``, U+001F becomes U+001E
``1``.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

__all__ = [
    "ALERTS",
    "AUDIT",
    "DECODED_SPANS",
    "ESCAPE",
    "FINDINGS",
    "LOGS",
    "REQUEST_PARTS",
    "RESOURCES",
    "SAMPLES",
    "SEPARATOR",
    "SERIES",
    "SPANS",
    "TABLES",
    "attributes_of",
    "escaped",
    "texts_of",
]

SEPARATOR: Final = "\x1f"
ESCAPE: Final = "\x1e"

SPANS: Final = pa.schema(
    [
        ("trace_id", pa.binary()),
        ("span_id", pa.binary()),
        ("parent_span_id", pa.binary()),  # empty for a root
        ("service", pa.string()),
        ("instance", pa.string()),
        ("name", pa.string()),
        ("kind", pa.int8()),  # OTLP's SpanKind: 2 is server, 3 is client
        ("start_ns", pa.int64()),
        ("duration_ns", pa.int64()),
        ("status", pa.int8()),  # 0 unset, 1 ok, 2 error
        ("status_message", pa.string()),
        ("user", pa.string()),  # null when the span itself names none
        ("call", pa.string()),  # the breakable call it ran under; null when it says none
        ("backend", pa.string()),  # db.system or its successor; null when it is no backend's client
        ("rejected", pa.string()),  # id of the breaker entry that refused it
        ("elements", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("attribute_keys", pa.string()),
        ("attribute_values", pa.string()),
        (
            "events",
            pa.string(),
        ),  # JSON list of {time_ns, name, attributes}; null when there are none
        ("links", pa.string()),  # JSON list of {trace_id, span_id, attributes}; null when none
        ("scope", pa.string()),
        ("trace_state", pa.string()),
        ("flags", pa.int64()),
        ("dropped", pa.int64()),  # attributes, events and links that the sender dropped
        ("resource_id", pa.int64()),
        ("received_ns", pa.int64()),
    ]
)

DECODED_SPANS: Final = pa.schema(
    [
        *SPANS,
        ("key_pattern", pa.string()),  # a key with its ids left out; null when it names none
        ("size", pa.int64()),  # operations sent at once; null when it does not say
        ("waited_us", pa.int64()),  # that it waited for its turn, as its user is paced
        ("address", pa.string()),  # host, or host:port, of the backend; null when it names none
    ]
)
"""Spans on their way from decode to link. The last columns are for charges and are not stored: the
attributes have what they say."""

LOGS: Final = pa.schema(
    [
        ("trace_id", pa.binary()),  # empty when the record belongs to no request
        ("span_id", pa.binary()),
        ("service", pa.string()),
        ("instance", pa.string()),
        ("time_ns", pa.int64()),  # the event's time, else when it was observed
        ("severity", pa.int8()),  # OTLP's SeverityNumber, 0 to 24
        ("severity_text", pa.string()),
        ("body", pa.string()),  # text as it is, anything else as JSON
        ("event_name", pa.string()),
        ("user", pa.string()),
        ("attribute_keys", pa.string()),
        ("attribute_values", pa.string()),
        ("scope", pa.string()),
        ("flags", pa.int64()),
        ("dropped", pa.int64()),
        ("resource_id", pa.int64()),
        ("received_ns", pa.int64()),
    ]
)

RESOURCES: Final = pa.schema(
    [
        ("resource_id", pa.int64()),  # hash of the attributes: the same resource has the same id
        ("attribute_keys", pa.string()),
        ("attribute_values", pa.string()),
    ]
)

SERIES: Final = pa.schema(
    [
        ("series_id", pa.int64()),  # hash of all that follows but the description
        ("name", pa.string()),
        ("kind", pa.string()),  # gauge, counter, up_down_counter, histogram, and so on
        ("temporality", pa.string()),  # cumulative, delta, or empty where there is none
        ("unit", pa.string()),
        ("description", pa.string()),
        ("service", pa.string()),
        ("instance", pa.string()),
        ("attribute_keys", pa.string()),  # sorted by name
        ("attribute_values", pa.string()),
        ("bounds", pa.list_(pa.float64())),  # a histogram's, inclusive; null where there are none
        ("scope", pa.string()),
        ("resource_id", pa.int64()),
    ]
)
"""What the samples of one metric with one set of attributes of one process share."""

SAMPLES: Final = pa.schema(
    [
        ("series_id", pa.int64()),
        ("time_ns", pa.int64()),
        ("start_ns", pa.int64()),  # since when it was counted; 0 when the sender did not say
        ("value", pa.float64()),  # of what has a count its sum, null when there is none
        ("count", pa.int64()),  # null where there is but one number
        ("bucket_counts", pa.list_(pa.int64())),  # one more than bounds; not added up
        ("exemplars", pa.string()),  # JSON list of {time_ns, value, trace_id, span_id, attributes}
        ("received_ns", pa.int64()),
    ]
)

REQUEST_PARTS: Final = pa.schema(
    [
        ("trace_id", pa.binary()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("user", pa.string()),
        ("user_rank", pa.int8()),  # precedence of who named the user; the lowest wins
        ("service", pa.string()),  # of the root span; null while it has not been seen
        ("call", pa.string()),  # name of the root span
        ("spans", pa.int32()),
        ("errors", pa.int32()),
        ("busy_ns", pa.int64()),
        ("elements", pa.int64()),
        ("received_ns", pa.int64()),
        ("last_received_ns", pa.int64()),  # differs once the store has folded parts into one
        ("services", pa.list_(pa.string())),  # that have spans in this part, sorted
    ]
)
"""What one commit saw of a request. A request arrives in pieces; the store adds them up into one
summary row a request."""

FINDINGS: Final = pa.schema(
    [
        ("id", pa.string()),
        ("class", pa.string()),  # as detect/findings.py has them
        ("user", pa.string()),  # null for an overload, which is no user's
        ("service", pa.string()),
        ("call", pa.string()),
        ("cost", pa.string()),
        ("window", pa.string()),
        ("load", pa.float64()),  # lower bound, cost per second
        ("at_ns", pa.int64()),
        ("trace_ids", pa.string()),  # JSON list of hexadecimal ids: worst, typical, latest
        ("reason", pa.string()),
        ("action", pa.string()),  # what it suggests: none, pace or reject
        ("resource", pa.string()),  # what is contended; empty: nothing
        ("baseline", pa.float64()),  # upper bound of what is usual for the user, cost per second
        ("figures", pa.string()),  # JSON object: what was measured
        ("thresholds", pa.string()),  # JSON object: what it was compared with
        ("victims", pa.string()),  # JSON object: who suffers; null: nobody
        ("worst", pa.string()),  # JSON object: the same at its gravest moment
        ("opened_ns", pa.int64()),
        ("updated_ns", pa.int64()),  # when a detector said it last
        ("closed_ns", pa.int64()),  # null while it is open
    ]
)
"""One row for each change of a finding's life; the last row of an id has all of it. What older
versions wrote has nulls from ``action`` on."""

ALERTS: Final = pa.schema(
    [
        ("name", pa.string()),
        ("state", pa.string()),  # the state it went into
        ("labels", pa.string()),  # JSON object
        ("annotations", pa.string()),  # JSON object
        ("value", pa.float64()),
        ("at_ns", pa.int64()),
    ]
)
"""One row for each change of an alert's state."""

AUDIT: Final = pa.schema(
    [
        ("at_ns", pa.int64()),
        ("change", pa.string()),  # opened, half_open, closed, cleared, refused, mode
        ("entry_id", pa.string()),
        ("issuer", pa.string()),
        ("reason", pa.string()),
        ("version", pa.string()),  # epoch.version after the change
        ("entry", pa.string()),  # JSON of the entry with its evidence
    ]
)
"""One row for each change of the breaker state, and for each refusal to change it."""

TABLES: Final = {
    "spans": SPANS,
    "logs": LOGS,
    "resources": RESOURCES,
    "series": SERIES,
    "samples": SAMPLES,
    "request_parts": REQUEST_PARTS,
    "findings": FINDINGS,
    "alerts": ALERTS,
    "audit": AUDIT,
}


def texts_of(keys: str | None, values: str | None) -> dict[str, str]:
    """Read a row's attributes back as texts: what people search for, and what labels have.

    Args:
        keys: ``attribute_keys`` of the row.
        values: ``attribute_values`` of the row.

    Returns:
        Attribute name to its text as the table in this file's head has it, without escapes. Of a
        name used twice the last one stands.
    """
    if not keys:
        return {}
    texts = (values or "").split(SEPARATOR)
    return {
        _unescape(key[2:]): _unescape(text)
        for key, text in zip(keys.split(SEPARATOR), texts, strict=True)
    }


def attributes_of(keys: str | None, values: str | None) -> dict[str, Any]:
    """Read a row's attributes back.

    Args:
        keys: ``attribute_keys`` of the row.
        values: ``attribute_values`` of the row.

    Returns:
        Attribute name to str, int, float, bool, bytes as ``{"bytes": hex}``, list, dict or None.
        Where a sender used a name twice the last one stands, as in the OpenTelemetry SDKs.
    """
    if not keys:
        return {}
    texts = (values or "").split(SEPARATOR)
    return {
        _unescape(key[2:]): _READERS[key[0]](text)
        for key, text in zip(keys.split(SEPARATOR), texts, strict=True)
    }


def escaped(text: str) -> str:
    """A name or a text as it stands among joined ones."""
    return text.replace(ESCAPE, ESCAPE + "0").replace(SEPARATOR, ESCAPE + "1")


def _unescape(text: str) -> str:
    if ESCAPE not in text:
        return text
    return text.replace(ESCAPE + "1", SEPARATOR).replace(ESCAPE + "0", ESCAPE)


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "s": _unescape,
    "i": int,
    "d": float,
    "b": lambda text: text == "true",
    "x": lambda text: {"bytes": text},
    "j": lambda text: json.loads(_unescape(text)),
    "n": lambda _: None,
}
