"""Names that both ends of the wire agree on: attributes, headers, metrics.

OpenTelemetry's semantic conventions are used wherever they have a name; ours start with
``heatshield.``.
"""

from typing import Final

# -- span and log attributes ------------------------------------------------------------------

ENDUSER_ID: Final = "enduser.id"
"""The acting user; what heatshield writes. Also the baggage key the user travels under."""

USER_ATTRIBUTES: Final = (ENDUSER_ID, "user.id", "enduser.pseudo.id")
"""Attributes the user is read from, in order of precedence."""

CALL: Final = "heatshield.call"
"""On a span: the innermost enclosing operation of this process that a breaker can refuse (its
server span's name or a guard's name). A span's cost is charged to the user of that call."""

GUARD: Final = "heatshield.guard"
"""On a span, ``true``: it was opened by ``heatshield.guard`` or ``heatshield.breaker``."""

COST_ELEMENTS: Final = "heatshield.cost.elements"
COST_ROWS: Final = "heatshield.cost.rows"
COST_BYTES: Final = "heatshield.cost.bytes"
"""On a span, integers: collection elements read or written, database rows, bytes moved."""

REDIS_ARGS_LENGTH: Final = "db.redis.args_length"
"""What OpenTelemetry's own Redis instrumentation writes: the words of the command."""

REJECTED: Final = "heatshield.rejected"
"""On a span: the id of the breaker entry that refused it. Such a span is not an error."""

# -- resource attributes ----------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
"""The service, as calls, loads and breakers name it."""

SERVICE_INSTANCE_ID: Final = "service.instance.id"
"""One process of the service; a new id in every process."""

WORKERS: Final = "heatshield.workers"
"""How many requests an instance can run at once on its processors: 1 for an asyncio process.
A service's capacity is the sum over its live instances."""

# -- headers (HTTP) and metadata (gRPC) -------------------------------------------------------

BREAKER_HEADER: Final = "heatshield-breaker"
"""On a 503 or UNAVAILABLE: the id of the entry that refused the call. Marked so, a rejection is
never retried and never counted as a failure."""

URGENT_HEADER: Final = "heatshield-urgent"
"""On an export, ``1``: a span in it costs far more than its call usually does, so the collector
should look at it at once instead of gathering more."""

# -- routes of the collector ------------------------------------------------------------------

OTLP_TRACES_PATH: Final = "/v1/traces"
OTLP_LOGS_PATH: Final = "/v1/logs"
BREAKERS_PATH: Final = "/v1/breakers"
BREAKER_STREAM_PATH: Final = "/v1/breakers/stream"
BREAKER_REPORT_PATH: Final = "/v1/breakers/report"

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"

# -- metrics: the collector's own /metrics, and series that rules and dashboards read ----------

USER_LOAD: Final = "heatshield_user_load"
"""Gauge, top-k: lower bound of cost per second by (user, service, call), labels ``cost`` (busy,
calls, elements) and ``window`` (1s, 10s, 1m, 5m). Busy load is dimensionless."""

CALL_LOAD: Final = "heatshield_call_load"
"""Gauge, top-k: cost per second by (service, call), labels ``cost`` and ``window``."""

FINDING: Final = "heatshield_finding"
"""Gauge: 1 user and call that a detector names; the value is the load it saw; labels ``class``
(hot, heavy), ``user``, ``service``, ``call``, ``cost``, ``window``."""

SERVICE_CAPACITY: Final = "heatshield_service_capacity"
"""Gauge by ``service``: the workers its live instances report."""

ALERTS: Final = "heatshield_alerts"
"""Gauge by ``alertname`` and ``alertstate`` (pending, firing): how many alerts."""

BREAKERS: Final = "heatshield_breakers"
"""Gauge by ``state`` (open, half_open) and ``mode`` (reject, trickle, flag): entries held."""

BREAKER_REJECTED: Final = "heatshield_breaker_rejected_total"
"""Counter by ``service`` and ``call``: calls that clients report having refused."""

REQUESTS: Final = "heatshield_requests_total"
"""Counter by ``service``, ``call``, ``outcome`` (ok, error, rejected): RED's rate and errors."""

REQUEST_DURATION: Final = "heatshield_request_duration_seconds"
"""Histogram by ``service`` and ``call``: RED's duration, of server spans and guards. Rejected
requests are not in it: they would make a protected call look fast."""

REQUESTS_COLLAPSED: Final = "heatshield_requests_collapsed_total"
"""Counter: requests counted under the call ``other``, because too many calls have series."""

SPANS_RECEIVED: Final = "heatshield_spans_received_total"
LOGS_RECEIVED: Final = "heatshield_logs_received_total"
"""Counters: records acknowledged, that is, durable."""

CHARGES_DROPPED: Final = "heatshield_charges_dropped_total"
"""Counter by ``cause``: charges the linker or a sketch had to let go."""

PAYLOADS_REFUSED: Final = "heatshield_payloads_refused_total"
"""Counter by ``cause`` (overload, malformed, too_large, unsupported, internal): payloads answered
with 4xx or 5xx."""

COMMIT_SECONDS: Final = "heatshield_commit_seconds"
"""Histogram: from the moment a payload is queued until it is durable, or refused by the store."""

COMMIT_QUEUE_BYTES: Final = "heatshield_commit_queue_bytes"
"""Gauge: payloads that wait for the disk."""

STORE_BYTES: Final = "heatshield_store_bytes"
"""Gauge: what the store takes up on disk."""

STREAM_SUBSCRIBERS: Final = "heatshield_stream_subscribers"
"""Gauge: who listens to ``/api/events``."""

STREAMS_CUT_OFF: Final = "heatshield_streams_cut_off_total"
"""Counter by ``cause`` (behind): listeners of ``/api/events`` that were let go."""

# -- the instrumentation's own ------------------------------------------------------------------

FLAGGED: Final = "heatshield.flagged"
"""On a span: the id of the entry of mode ``flag`` that it matched; it was let through."""

TELEMETRY_DROPPED: Final = "heatshield_telemetry_dropped_total"
"""Counter by ``cause`` in a service's own registry: spans and log records that never left it."""

INSTRUMENTATION_ERRORS: Final = "heatshield_instrumentation_errors_total"
"""Counter by ``where`` in a service's own registry: errors of heatshield that it swallowed."""
