"""Ids give way to pseudonyms when records are encoded: late, everywhere, and only there."""

import contextvars
import logging

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from heatshield.context.request import Request, with_request
from heatshield.export.attributes import forget
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import encode
from heatshield.identity.identify import Identity
from heatshield.identity.pseudonym import pseudonym
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span
from heatshield.tracing.stamp import stamp

KEY = "a key for tests"
TRACER = PROVIDER.get_tracer("test")


def alias(user):
    return pseudonym(KEY.encode(), user)


@pytest.fixture
def reads():
    settings = ServiceSettings(user_key=KEY)
    made = Identity(settings)
    SANITIZER.install(settings, made.aliases)
    forget()
    yield made
    SANITIZER.remove()
    forget()


def fresh(test):
    """Run it in a context of its own: nobody was named there before."""
    return contextvars.Context().run(test)


def encoded(span):
    (payload,) = encode([span], [], {})
    (of_resource,) = ExportTraceServiceRequest.FromString(payload.body).resource_spans
    found = of_resource.scope_spans[0].spans[0]
    return found, values(found.attributes)


def values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def said(event):
    (payload,) = encode([], [event], {})
    (of_resource,) = ExportLogsServiceRequest.FromString(payload.body).resource_logs
    (record,) = of_resource.scope_logs[0].log_records
    return record.body.string_value, values(record.attributes)


def span_of(request, name="inner", kind=SpanKind.INTERNAL, **attributes):
    span = TRACER.open(name, kind, attributes, with_request(request))
    span.end()
    return span


def test_what_was_recorded_before_the_user_was_named_is_masked(reads):
    request = Request()
    span = span_of(request, path="/users/ann")
    from opentelemetry.context import attach, detach

    token = attach(with_request(request))
    event = LogEvent.here(0, logging.INFO, "asked for ann", {"who": "ann"}, "shop")
    detach(token)
    reads.name(request, "ann")
    assert encoded(span)[1]["path"] == f"/users/{alias('ann')}"
    assert said(event)[0] == f"asked for {alias('ann')}"
    assert said(event)[1]["who"] == alias("ann")


def test_a_line_right_after_a_request_is_masked(reads):
    def served_and_logged():
        reads.name(Request(), "ann")
        return LogEvent.here(0, logging.INFO, "GET /users/ann 200", {}, "gunicorn.access")

    body, attributes = said(fresh(served_and_logged))
    assert body == f"GET /users/{alias('ann')} 200"
    assert "enduser.id" not in attributes  # it may be about another request


def test_a_line_of_nobody_keeps_words_and_loses_ids(reads):
    for user in ("ann", "zoe-8841"):
        reads.name(Request(), user)
    event = fresh(lambda: LogEvent.here(0, logging.INFO, "ann and zoe-8841", {}, "shop"))
    assert said(event)[0] == f"ann and {alias('zoe-8841')}"


@pytest.mark.parametrize(
    ("user", "fields", "masked"),
    [
        ("7", {"user_id": 7, "n": 7, "ok": True, "share": 7.0}, {"user_id"}),
        ("884123", {"user_id": 884123, "n": 884123, "m": 884124}, {"user_id", "n"}),
        ("ann", {"by": {"ann": ("ann", 1)}, "ann": 1, "x": b"ann"}, {"by", "x"}),
    ],
)
def test_fields_of_every_kind(reads, user, fields, masked):
    request = Request()
    reads.name(request, user)
    _, shown = encoded(span_of(request, **fields))
    for name, value in fields.items():
        if name in masked:
            assert alias(user) in str(shown[name])
        elif name != user:
            assert shown[name] == value
    assert user not in shown


@pytest.mark.parametrize("user", ["get", "http", "purchases", "post", "set"])
def test_a_user_of_that_name_changes_no_call_and_nothing_of_protocols(reads, user):
    request = Request()
    reads.name(request, user)
    attributes = {
        "http.request.method": "GET", "url.scheme": "http", "http.route": "/purchases/{user}",
        "db.operation.name": "SET",
    }  # fmt: skip
    span = TRACER.open("POST /purchases", SpanKind.SERVER, dict(attributes), with_request(request))
    inner = TRACER.open("SET", SpanKind.CLIENT, {}, with_request(request))
    span.end()
    inner.end()
    found, shown = encoded(span)
    assert found.name == shown["heatshield.call"] == "POST /purchases"
    assert attributes.items() <= shown.items()
    assert encoded(inner)[0].name == "SET"


def test_names_and_events_of_ones_own_spans(reads):
    request = Request()
    reads.name(request, "zoe-8841")
    span = TRACER.open("sell to zoe-8841", SpanKind.INTERNAL, {}, with_request(request))
    span.add_event("sold to zoe-8841", {"to": "zoe-8841"})
    span.end()
    found, _ = encoded(span)
    assert found.name == f"sell to {alias('zoe-8841')}"
    assert found.events[0].name == f"sold to {alias('zoe-8841')}"
    assert values(found.events[0].attributes) == {"to": alias("zoe-8841")}


def test_spans_of_the_services_own_provider(reads):
    """They do not know their request, but whose pseudonym they were stamped with."""
    request = Request(call="GET /")
    reads.name(request, "ann")
    span = TracerProvider().get_tracer("theirs").start_span("GET", attributes={"path": "/u/ann"})
    stamp(span, with_request(request))
    span.end()
    _, shown = encoded(Span.read(span))
    assert shown["path"] == f"/u/{alias('ann')}"
    assert shown["enduser.id"] == alias("ann")


def test_without_a_key_nothing_is_touched():
    request = Request()
    Identity(ServiceSettings()).name(request, "ann")
    _, shown = encoded(span_of(request, path="/users/ann", user_id=7))
    assert (shown["path"], shown["user_id"], shown["enduser.id"]) == ("/users/ann", 7, "ann")
