"""What is never sent, by default: on spans whoever makes them, and in log records."""

import logging

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from heatshield.export.attributes import forget
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import encode
from heatshield.sanitize.redaction import ENDINGS, MARKS, SECRETS, Redaction
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER, Provider

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ6b2UifQ.c2lnbmF0dXJl"
SIGNED = "https://s3.example/k?X-Amz-Credential=AKIA7&X-Amz-Signature=5ec2e7&partNumber=1"


@pytest.fixture(autouse=True)
def outgoing():
    def install(**settings):
        SANITIZER.install(ServiceSettings(**settings), None)
        forget()

    install()
    yield install
    SANITIZER.remove()
    forget()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer 5ec2e7", "Authorization: REDACTED"),
        ("{'authorization': 'Basic 5ec2e7', 'n': 1}", "{'authorization': REDACTED, 'n': 1}"),
        (
            "[(b'cookie', b'sid=5ec2e7'), (b'host', b'h')]",
            "[(b'cookie', REDACTED), (b'host', b'h')]",
        ),
        ("Set-Cookie: sid=5ec2e7; Path=/\r\nHost: h", "Set-Cookie: REDACTED\r\nHost: h"),
        ("HTTP_COOKIE=sid=5ec2e7", "HTTP_COOKIE=REDACTED"),
        ("sent Bearer 5ec2e7abc to h", "sent Bearer REDACTED to h"),
        (f"token {JWT} expired", "token REDACTED expired"),
        ("redis://:5ec2e7@cache:6379/0", "redis://REDACTED:REDACTED@cache:6379/0"),
        ("postgresql://u:5ec@2e7@db/x?a=b", "postgresql://REDACTED:REDACTED@db/x?a=b"),
        ("host=db password=5ec2e7 dbname=x", "host=db password=REDACTED dbname=x"),
        ('{"password": "5ec2e7", "u": 1}', '{"password": REDACTED, "u": 1}'),
        ("/callback#access_token=5ec2e7&x=1", "/callback#access_token=REDACTED&x=1"),
        ('"GET /login?code=5ec2e7 HTTP/1.1"', '"GET /login?code=REDACTED HTTP/1.1"'),
    ],
)
def test_secrets_in_what_people_wrote(text, shown):
    assert Redaction().text(text) == shown


def test_every_secret_name_has_a_mark_by_which_a_text_is_looked_through():
    assert [
        name for name in SECRETS | set(ENDINGS) if not any(mark in name for mark in MARKS)
    ] == []


@pytest.mark.parametrize(
    "text",
    ["basic authentication failed", "3 passed", "the bearer of news", "code=7 key=user:1 pin code",
     "GET /x?page=2&code_point=a", "mailto:ann@example.com", "see https://example.com/@ann",
     "next_page_token=abc max_tokens=5", "cookies are good", "eyJ is how they begin"],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert Redaction().text(text) == text


def span_of(attributes, scope="opentelemetry.instrumentation.requests", **more):
    span = PROVIDER.get_tracer(scope).start_span("GET", None, SpanKind.CLIENT, attributes)
    for event in more.get("events", ()):
        span.add_event("exception", event)
    if "status" in more:
        span.set_status(StatusCode.ERROR, more["status"])
    span.end()
    (payload,) = encode([span], [], {})
    (of_resource,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
    return of_resource.scope_spans[0].spans[0]


def values(attributes):
    return {a.key: str(getattr(a.value, a.value.WhichOneof("value"))) for a in attributes}


def test_addresses_of_other_instrumentations_spans():
    shown = values(
        span_of(
            {
                "http.url": SIGNED,
                "url.full": "https://u:5ec2e7@h/?token=5ec2e7&a=1",
                "http.target": "/x?api_key=5ec2e7",
                "url.query": "password=5ec2e7&q=cats",
                "http.request.header.authorization": ["Bearer 5ec2e7"],
                "http.request.header.x_api_key": ("5ec2e7",),
                "http.response.header.set-cookie": ["sid=5ec2e7"],
                "http.request.header.referer": ["https://h/?token=5ec2e7"],
                "session_token": b"5ec2e7",
                "shop.pin": 5327,
                "shop.nested": "password=5ec2e7",
            }
        ).attributes
    )
    assert "5ec2e7" not in str(shown)
    assert "5327" not in str(shown)
    assert "AKIA7" not in str(shown)
    assert "partNumber=1" in shown["http.url"]
    assert shown["url.query"] == "password=REDACTED&q=cats"
    assert shown["url.full"] == "https://REDACTED:REDACTED@h/?token=REDACTED&a=1"


def test_exceptions_and_statuses():
    told = {"exception.message": f"no {SIGNED}", "exception.stacktrace": "x?token=5ec2e7"}
    found = span_of({}, events=[told], status="redis://:5ec2e7@cache is away")
    said = values(found.events[0].attributes)
    assert "X-Amz-Signature=REDACTED" in said["exception.message"]
    assert "?token=REDACTED" in said["exception.stacktrace"]
    assert found.status.message == "redis://REDACTED:REDACTED@cache is away"


def test_a_package_whose_name_only_begins_like_ours_is_cleaned():
    said = {"db.system": "postgresql", "db.statement": "SELECT * FROM t WHERE owner = 'zoe'"}
    found = span_of(said, scope="heatshield_shop")
    assert "zoe" not in str(values(found.attributes))
    assert "zoe" in str(values(span_of(said, scope="heatshield.psycopg").attributes))


def test_a_name_is_cleaned_whichever_scope_had_it_first():
    name = "GET /?token=5ec2e7"
    for scope, shown in (("heatshield.flask", name), ("heatshield_shop", "GET /?token=REDACTED")):
        span = PROVIDER.get_tracer(scope).start_span(name)
        span.end()
        (payload,) = encode([span], [], {})
        (found,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
        assert found.scope_spans[0].spans[0].name == shown


@pytest.mark.parametrize("name", ["db.statement", "db.query.text"])
def test_literals_of_statements(name):
    statement = "SELECT * FROM t WHERE owner = 'zoe' AND n > 5327"
    for system in ({"db.system": "postgresql"}, {"db.system.name": "mysql"}, {}):
        shown = values(span_of({name: statement, **system}).attributes)[name]
        assert "zoe" not in shown
        assert "5327" not in shown
        assert shown.startswith("SELECT * FROM t WHERE owner = ?")


def test_statements_that_are_no_sql_or_are_shapes_already_stay():
    redis = {"db.system": "redis", "db.statement": "SADD user:{id} ? ... (20002 words)"}
    assert values(span_of(redis).attributes)["db.statement"] == redis["db.statement"]
    ours = {"db.query.text": "PIPELINE of 20000: SADD"}
    assert values(span_of(ours, "heatshield.redis").attributes) == ours


def logged(body, fields):
    (payload,) = encode([], [LogEvent.here(0, logging.INFO, body, fields, "shop")], {})
    (of_resource,) = ExportLogsServiceRequest.FromString(payload.body).resource_logs
    (record,) = of_resource.scope_logs[0].log_records
    return record.body.string_value, values(record.attributes)


def test_log_records():
    body, fields = logged(
        "login with Authorization: Basic 5ec2e7",
        {"password": "5ec2e7", "Session-Id": "5ec2e7", "code": 404, "key": "user:1", "pin": 5327,
         "headers": {"cookie": "5ec2e7", "host": "h"}, "url": "https://h/?token=5ec2e7"},
    )  # fmt: skip
    assert "5ec2e7" not in body + str(fields)
    assert fields["pin"] == "REDACTED"
    assert (fields["code"], fields["key"]) == ("404", "user:1")


def test_names_of_ones_own(outgoing):
    outgoing(redact=("iban", "X-Shoe-Size"))
    shown = values(span_of({"url.query": "IBAN=DE00&x=1", "shop.shoe_size": 1}).attributes)
    assert "DE00" not in str(shown)
    assert "x=1" in shown["url.query"]
    _, fields = logged("", {"x_shoe_size": 47, "iban": "DE00"})
    assert logged("X_Shoe-Size: 47", {})[0] == "X_Shoe-Size: REDACTED"
    assert set(fields.values()) == {"REDACTED"}


def test_it_can_be_switched_off(outgoing):
    outgoing(redaction=False)
    assert values(span_of({"url.query": "token=5ec2e7"}).attributes)["url.query"] == "token=5ec2e7"
    assert logged("password=5ec2e7", {})[0] == "password=5ec2e7"


def test_what_is_said_often_is_looked_at_once(monkeypatch):
    looked = []
    shown = SANITIZER.shown
    monkeypatch.setattr(SANITIZER, "shown", lambda *of: looked.append(of) or shown(*of))
    for _ in range(5):
        span_of({"http.request.method": "GET", "url.query": "token=x"})
    assert len(looked) == 2


def test_a_databases_error_that_a_log_quotes_shows_no_values(service):
    """An exception on an enclosing span or in a log says what the driver's message says."""
    service()
    quoted = "duplicate key value\nDETAIL:  Key (email)=(ann@example.com) already exists."
    assert "ann@example.com" not in SANITIZER.text(quoted)
    assert "duplicate key value" in SANITIZER.text(quoted)


QUOTED = "duplicate key value\nDETAIL:  Key (email)=(ann@example.com) already exists."


def test_values_that_an_exception_quotes_do_not_leave_in_attributes_either(outgoing):
    told = {"exception.message": QUOTED, "exception.stacktrace": f"Traceback\nError: {QUOTED}"}
    (event,) = span_of({}, events=[told]).events
    _, logs = logged("failed", told)
    for said in (values(event.attributes), logs):
        assert "ann@example.com" not in str(said)
        assert "duplicate key value" in said["exception.message"]
    outgoing(redaction=False)
    (event,) = span_of({}, events=[told]).events
    assert values(event.attributes)["exception.message"] == QUOTED


def other_exporters(provider):
    """What a service's own exporter gets of spans that tracers of ``provider`` make."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


ADDRESS = {"url.query": "token=5ec2e7&q=cats", "note": "?token=as-the-service-set-it"}
SHOWN = {"url.query": "token=REDACTED&q=cats", "note": "?token=as-the-service-set-it"}


def test_a_services_own_processor_gets_no_secrets_of_addresses():
    provider = Provider()
    exporter = other_exporters(provider)
    provider.get_tracer("heatshield.asgi").open("GET /", SpanKind.SERVER, dict(ADDRESS)).end()
    (span,) = exporter.get_finished_spans()
    assert {name: span.attributes[name] for name in SHOWN} == SHOWN


def test_a_provider_that_took_over_gets_no_secrets_of_addresses(outgoing):
    provider = Provider()
    provider.successor = TracerProvider(shutdown_on_exit=False)
    exporter = other_exporters(provider.successor)
    tracer = provider.get_tracer("heatshield.asgi")
    tracer.open("GET /", SpanKind.SERVER, dict(ADDRESS)).end()
    outgoing(redaction=False)
    tracer.open("GET /", SpanKind.SERVER, dict(ADDRESS)).end()
    first, second = exporter.get_finished_spans()
    assert dict(first.attributes) == SHOWN
    assert dict(second.attributes) == ADDRESS
