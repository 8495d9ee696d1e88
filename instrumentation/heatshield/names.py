"""Names that both ends of the wire agree on: attributes, headers, metrics.

OpenTelemetry's semantic conventions are used wherever they have a name; ours start with
``heatshield.``.
"""

from typing import Final

# -- span and log attributes ------------------------------------------------------------------

ENDUSER_ID: Final = "enduser.id"
"""The acting user, as heatshield writes it. Also the user's key in baggage."""

USER_ATTRIBUTES: Final = (ENDUSER_ID, "user.id", "enduser.pseudo.id")
"""Attributes that name the user, in order of precedence."""

USER_SOURCE: Final = "heatshield.user.source"
"""On a span that a request entered with: the source of the acting user. Verified ones: ``code``,
``auth`` (the framework's authentication). As the request names it: ``header``, ``baggage`` (another
service), ``jwt-unverified``, ``cookie``, ``query``, ``path``."""

CALL: Final = "heatshield.call"
"""On a span: the innermost enclosing operation of this process that a breaker can refuse (its
server span's name or a guard's name). A span's cost is charged to the user of that call."""

GUARD: Final = "heatshield.guard"
"""On a span, ``true``: it was opened by ``heatshield.guard`` or ``heatshield.breaker``."""

COST_ELEMENTS: Final = "heatshield.cost.elements"
COST_ROWS: Final = "heatshield.cost.rows"
COST_BYTES: Final = "heatshield.cost.bytes"
"""On a span, integers: collection elements read or written, database rows, bytes moved."""

WAITED_US: Final = "heatshield.paced.waited_us"
"""Microseconds of a server span in which its call waited for its turn and cost nothing."""

STATIC: Final = "heatshield.static"
"""On a server span, ``true``: it answers with a file, static or uploaded, and runs no view of the
service."""

STATIC_CALL: Final = "static"
"""The call of all requests of a service for such files, whatever their routes."""

REDIS_ARGS_LENGTH: Final = "db.redis.args_length"
"""The number of words of the command, as OpenTelemetry's own Redis instrumentation writes it."""

BATCH_SIZE: Final = "db.operation.batch.size"
"""On a database's or Redis' span, an integer, as OpenTelemetry's conventions name it: how many
operations were sent at once."""

REDIS_KEY_PATTERN: Final = "heatshield.redis.key_pattern"
"""On a Redis span: the key it is about with ids left out, e.g. ``user:{id}:stickers``."""

REJECTED: Final = "heatshield.rejected"
"""On a span: the id of the breaker entry that refused it. Such a span is not an error."""

LOG_SUPPRESSED: Final = "heatshield.log.suppressed"
"""On a log record, an integer: how many records of its call site were not sent."""

TEXT_MENDED: Final = "heatshield.text.mended"
"""On a span, event, link, log record, point or resource, ``true``: a text of it was no Unicode when
it came, and the collector has put U+FFFD where it was not."""

# -- resource attributes ----------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
"""The service, as calls, loads and breakers name it."""

SERVICE_INSTANCE_ID: Final = "service.instance.id"
"""One process of the service; a new id in every process."""

WORKERS: Final = "heatshield.workers"
"""How many requests an instance can run at once on its processors: 1 for an asyncio process.
A service's capacity is the number of its live instances that send spans or charges, times their
median; no more is believed than an instance has shown to be busy with."""

# -- headers (HTTP) and metadata (gRPC) -------------------------------------------------------

BREAKER_HEADER: Final = "heatshield-breaker"
"""On a 503 or UNAVAILABLE: the id of the entry that refused the call. Marked so, a rejection is
never retried and never counted as a failure."""

BREAKER_AT_HEADER: Final = "heatshield-breaker-at"
"""On a refusal, ``call``: the entry names the very call that was asked for, so its caller may
refuse the next one itself. Without it the refusal comes from a guard, or from another service."""

AT_CALL: Final = "call"

URGENT_HEADER: Final = "heatshield-urgent"
"""On an export, ``1``: a span in it costs far more than its call usually does, so the collector
should look at it at once instead of gathering more."""

DEADLINE_HEADER: Final = "heatshield-deadline"
"""On a request: the whole milliseconds that its caller still waits. On a 504, ``0``: the request
was not started, or given up, because no time was left; no breaker counts that as a failure."""

CHECK_SERVICE_HEADER: Final = "heatshield-check-service"
CHECK_CALL_HEADER: Final = "heatshield-check-call"
CHECK_USER_HEADER: Final = "heatshield-check-user"
CHECK_REFUSAL_STATUS_HEADER: Final = "heatshield-check-refusal-status"
"""On a request to ``/v1/check/<path>``: what a gateway says there, as by parameters elsewhere."""

CHECK_STATUS_HEADER: Final = "heatshield-status"
"""On a refusal by ``/v1/check``: the status that the user is to get, 429 or 503, whatever status
the gateway asked for itself."""

# -- routes of the collector ------------------------------------------------------------------

OTLP_TRACES_PATH: Final = "/v1/traces"
OTLP_LOGS_PATH: Final = "/v1/logs"
OTLP_METRICS_PATH: Final = "/v1/metrics"
BREAKERS_PATH: Final = "/v1/breakers"
BREAKER_STREAM_PATH: Final = "/v1/breakers/stream"
BREAKER_REPORT_PATH: Final = "/v1/breakers/report"
CHARGES_PATH: Final = "/v1/charges"
CHECK_PATH: Final = "/v1/check"

UNKNOWN_SERVICE: Final = "unknown_service"
"""OpenTelemetry's name of a service without one."""

COLLECTOR_SERVICE: Final = "heatshield-collector"
"""The service under which a collector reports to itself."""

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"

DEFAULT_KILL_SWITCH_FILE: Final = "/run/heatshield/off"
"""While it exists, instrumented processes on this machine refuse no call."""

DEFAULT_DATA: Final = "./heatshield-data"
"""The collector's data folder."""

ADMIN_TOKEN_FILE: Final = "admin-token"  # noqa: S105  a name
"""File in the data folder with the token of the command line of the collector's own user."""

ADMIN_PORT_FILE: Final = "admin-port"
"""File beside it with the port on which the collector listens; there while it does."""

# -- metrics: the collector's own /metrics, and series that rules and dashboards read ----------

USER_LOAD: Final = "heatshield_user_load"
"""Gauge, top-k: lower bound of cost per second by (user, service, call), labels ``cost`` (busy,
calls, elements, cpu, backend, wait) and ``window`` (1s, 10s, 1m, 5m). Busy load is dimensionless:
cpu and backend together."""

CALL_LOAD: Final = "heatshield_call_load"
"""Gauge, top-k: cost per second by (service, call), labels ``cost`` and ``window``."""

FINDING: Final = "heatshield_finding"
"""Gauge: 1 user and call, or overloaded resource, that a detector names; the value is the load it
saw; labels ``class`` (harmful, budget, overload, hot, heavy), ``action`` (none, pace, reject),
``user``, ``service``, ``call``, ``resource``, ``cost``, ``window``. The gravest 200."""

SERVICE_CAPACITY: Final = "heatshield_service_capacity"
"""Gauge by ``service``: the workers of its live instances that send spans or charges, as far as
they are believed."""

ALERTS: Final = "heatshield_alerts"
"""Gauge by ``alertname`` and ``alertstate`` (pending, firing): how many alerts."""

BREAKERS: Final = "heatshield_breakers"
"""Gauge by ``state`` (open, half_open) and ``mode`` (pace, reject, trickle, flag): entries held."""

BREAKER_HELD: Final = "heatshield_breaker_held"
"""Gauge, 1 for each entry held: by ``user``, ``service``, ``call``, ``state`` and ``mode``."""

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
SAMPLES_RECEIVED: Final = "heatshield_samples_received_total"
"""Counters: spans, log records and samples of metrics acknowledged, that is, durable."""

CHARGES_DROPPED: Final = "heatshield_charges_dropped_total"
"""Counter by ``cause``: charges that the linker dropped."""

CHARGE_REPORTS: Final = "heatshield_charge_reports_total"
"""Counter by ``outcome``: charge reports that were ``counted``; that came ``late``, so that they
count but not towards a trip; that came again (``duplicate``); that came so long after others of
their process that it is not known any more whether they came before (``too_old``)."""

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
"""Gauge: clients that listen to ``/api/events``."""

STREAMS_CUT_OFF: Final = "heatshield_streams_cut_off_total"
"""Counter by ``cause`` (behind): listeners of ``/api/events`` that were let go."""

RULE_FAILING: Final = "heatshield_rule_failing"
"""Gauge by ``group`` and ``rule``: 1 for a rule that failed the last time it was due. Its alerts do
not act meanwhile."""

EVALUATION_FAILURES: Final = "heatshield_evaluation_failures_total"
"""Counter: rules, and whole rounds of evaluation, that failed; each is logged with its reason."""

POLICY_IN_FORCE: Final = "heatshield_policy_in_force"
"""Gauge: 1 where the policy file is in force as it is, or there is none; 0 where it can't be used,
and an earlier version stays in force."""

POLICY_FAILURES: Final = "heatshield_policy_failures_total"
"""Counter: versions of the policy file that could not be used."""

JOURNAL_DROPPED: Final = "heatshield_journal_dropped_total"
"""Counter: findings, alerts and audit records that were not stored, for want of room or because the
store refused them."""

STATE_WRITE_FAILURES: Final = "heatshield_state_write_failures_total"
"""Counter: writes of the held breakers to ``breakers.json`` that failed or took so long that
clients were told before; a restart may forget what changed."""

NOTIFICATIONS: Final = "heatshield_notifications_total"
"""Counter by ``outcome`` (sent, suppressed, retried, failed, dropped), over all targets:
notifications of alerts. Suppressed: the target was told already; retried: an attempt that failed
and is made again; dropped: too many waited for the target."""

INSTANCES_BEHIND: Final = "heatshield_instances_behind"
"""Gauge: live instances that have not said that they enforce the breaker state as it is."""

INSTANCES_NOT_ENFORCING: Final = "heatshield_instances_not_enforcing"
"""Gauge: live instances whose kill switch is thrown, so that they refuse no call."""

# -- the instrumentation's own ------------------------------------------------------------------

FLAGGED: Final = "heatshield.flagged"
"""On a span: the id of the entry of mode ``flag`` that it matched; it was let through."""

TELEMETRY_DROPPED: Final = "heatshield_telemetry_dropped_total"
"""Counter by ``cause`` in a service's own registry: spans and log records that never left it."""

INSTRUMENTATION_ERRORS: Final = "heatshield_instrumentation_errors_total"
"""Counter by ``where`` in a service's own registry: errors of heatshield that it swallowed."""

SERVICE_REQUESTS: Final = "heatshield_service_requests_total"
"""Counter by ``call`` and ``outcome`` (ok, error, rejected) in a service's own registry: requests
and guarded calls. The collector counts them too, from spans and for all services, under another
name: a sum over both would be twice too high."""

SERVICE_REQUEST_DURATION: Final = "heatshield_service_request_duration_seconds"
"""Histogram by ``call`` in a service's own registry, without those that were rejected. Its
exemplars carry ``trace_id``."""

SERVICE_REQUESTS_IN_FLIGHT: Final = "heatshield_service_requests_in_flight"
"""Gauge in a service's own registry: requests that have begun and not ended."""

SERVICE_BREAKERS: Final = "heatshield_service_breakers"
"""Gauge by ``mode`` (pace, reject, trickle, flag) in a service's own registry: breaker entries
held."""

SERVICE_KILL_SWITCH: Final = "heatshield_service_kill_switch"
"""Gauge by ``cause`` (setting, code, signal, file) in a service's own registry: 1 for what has
thrown the kill switch; while any has, the process refuses no call."""

SERVICE_QUEUE_RECORDS: Final = "heatshield_service_queue_records"
"""Gauge by ``queue`` (spans, logs) in a service's own registry: records that wait to be sent."""

LOCAL_BREAKER_STATE: Final = "heatshield_local_breaker_state"
"""Gauge by ``peer``, ``call``, ``caller`` and ``state`` (closed, open, half-open) in a service's
own registry: 1 for the state that a local breaker is in. Those that never opened are left out."""

LOCAL_BREAKER_REFUSED: Final = "heatshield_local_breaker_refused_total"
"""Counter by ``peer``, ``call`` and ``caller`` in a service's own registry: calls that a local
breaker refused."""

CALLS_NOT_STARTED: Final = "heatshield_calls_not_started_total"
"""Counter in a service's own registry: outgoing calls that were not made, because their request's
deadline left no time."""

RETRIES: Final = "heatshield_retries_total"
"""Counter by ``outcome`` (allowed, refused) in a service's own registry: retries that
``heatshield.retry`` allowed, or refused because no budget was left."""

EVENT_LOOP_LAG: Final = "heatshield_event_loop_lag_seconds"
"""Histogram in a service's own registry: how late its event loop runs what is due."""

GC_PAUSE: Final = "heatshield_gc_pause_seconds"
"""Histogram by ``generation`` in a service's own registry: how long Python's garbage collector
stopped it."""
