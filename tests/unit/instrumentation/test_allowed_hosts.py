"""Whom trace and user are sent on to, and what an edge believes and keeps."""

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, set_span_in_context

from heatshield.context.allowed_hosts import AllowedHosts
from heatshield.context.propagator import RequestPropagator
from heatshield.context.request import Request, request_in, with_request
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings
from heatshield.tracing.provider import PROVIDER

TRACER = PROVIDER.get_tracer("test")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("host", "patterns", "told"),
    [
        ("shop", "shop", True),
        ("SHOP.", "shop", True),
        ("shop.evil.example", "shop", False),
        ("a.internal", "*.internal", True),
        ("a.b.Internal", "*.internal", True),
        ("internal", "*.internal", False),
        ("evilinternal", "*.internal", False),
        ("127.0.0.1", "shop,127.0.0.1", True),
        ("[::1]", "::1", True),
        ("anything", "*", True),
        ("pay.example", "shop,*.internal", False),
    ],
)
def test_hosts_are_known_by_name_or_ending(host, patterns, told):
    assert (host in AllowedHosts(patterns.split(","))) is told


def sent(attributes, kind=SpanKind.CLIENT, to=("shop", "*.internal")):
    propagator = RequestPropagator(Identity(ServiceSettings()), to=to)
    context = with_request(Request(user="u-1"), Context())
    headers = {}
    span = TRACER.open("GET", kind, attributes, context)
    propagator.inject(headers, set_span_in_context(span, context))
    return headers


@pytest.mark.parametrize(
    "attributes",
    [
        {"server.address": "pay.example", "url.full": "https://pay.example/"},
        {"url.full": "https://u:p@pay.example:8443/x"},
        {"http.url": "https://pay.example/shop.internal"},
        {"net.peer.name": "pay.example"},
        {"url.full": "https://[bad"},
    ],
)
def test_nobody_else_is_told_anything(attributes):
    assert sent(attributes) == {}


@pytest.mark.parametrize(
    "attributes",
    [
        {"server.address": "shop"},
        {"url.full": "http://a.internal:80/x"},
        {"http.url": "http://shop"},
    ],
)
def test_those_who_are_named_are_told(attributes):
    assert sent(attributes)["baggage"] == "enduser.id=u-1"


def test_what_goes_to_no_host_by_name_is_ones_own():
    assert "traceparent" in sent({"messaging.system": "kafka"}, SpanKind.PRODUCER)
    assert "traceparent" in sent({})


def test_where_none_is_named_all_are_told():
    assert "traceparent" in sent({"server.address": "pay.example"}, to=())


def extracted(headers, **settings):
    loaded = ServiceSettings(**settings)
    propagator = RequestPropagator(Identity(loaded), edge=loaded.edge)
    return propagator.extract(headers, Context())


def test_an_edge_begins_its_own_trace_and_links_to_the_callers():
    context = extracted(
        {"traceparent": TRACEPARENT, "tracestate": "a=b", "baggage": "enduser.id=victim,x=1"},
        edge=True,
    )
    span = TRACER.open("GET /", SpanKind.SERVER, {}, context)
    assert f"{span.trace_id:032x}" != TRACEPARENT.split("-")[1]
    assert span.parent_id == 0
    assert request_in(context).user is None
    (link,) = span.links
    assert f"{link.context.trace_id:032x}-{link.context.span_id:016x}" in TRACEPARENT
    inner = TRACER.open("inner", SpanKind.INTERNAL, {}, set_span_in_context(span, context))
    assert inner.links == ()


def test_inside_there_is_a_parent_and_no_link():
    context = extracted({"traceparent": TRACEPARENT})
    span = TRACER.open("GET /", SpanKind.SERVER, {}, context)
    assert f"{span.trace_id:032x}" in TRACEPARENT
    assert span.links == ()


@pytest.mark.parametrize("trace", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"])
def test_an_edge_links_to_no_nonsense(trace):
    span = TRACER.open("GET /", SpanKind.SERVER, {}, extracted({"traceparent": trace}, edge=True))
    assert span.links == ()
