"""Thrift: a tripped user is refused before the handler, and the refusal is one everywhere."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode
from thrift_peers import Handler, SoldOutError, asking, every_wire, serving
from thriftpy2.thrift import (
    TApplicationException,
    TProcessor,
)

import heatshield
from heatshield.names import REJECTED


@every_wire
def test_a_tripped_user_is_refused_before_the_handler(service, until, thrift, wire):
    made = service()
    entry_id = made.trip("u-7", "Shop/buy")
    handler = Handler(thrift)
    with serving(TProcessor(thrift.Shop, handler), wire) as port:
        with asking(thrift, port, wire, user="u-7") as client:
            with pytest.raises(TApplicationException) as raised:
                client.buy("cat", None)
            assert client.owned(thrift.Actor("u-7")) == ["cat", "u-7"]  # the connection lives on
        with asking(thrift, port, wire, user="u-8") as client:
            assert client.buy("cat", None)
        until(lambda: len(made.spans) == 6)
    assert handler.users == ["u-8"]
    assert raised.value.type == TApplicationException.INTERNAL_ERROR
    assert heatshield.is_rejection(raised.value)
    with pytest.raises(heatshield.BreakerOpen) as refusal:
        heatshield.raise_for_rejection(raised.value)
    assert refusal.value.entry_id == entry_id
    assert refusal.value.retry_after_s >= 1
    refused = [span for span in made.spans if REJECTED in span.attributes]
    assert {span.kind for span in refused} == {SpanKind.CLIENT, SpanKind.SERVER}
    assert all(span.attributes[REJECTED] == entry_id for span in refused)
    assert all(span.status_code is StatusCode.UNSET for span in refused)


def test_a_refusal_is_handed_on_from_service_to_service(service, until, thrift):
    made = service()
    entry_id = made.trip("u-7", "report")

    class Nearer:
        def buy(self, sticker, _actor):
            with asking(thrift, port) as farther:
                return farther.buy(sticker, None)

    with (
        serving(TProcessor(thrift.Shop, Handler(thrift))) as port,
        serving(TProcessor(thrift.Shop, Nearer())) as nearer,
        asking(thrift, nearer, user="u-7") as client,
    ):
        with pytest.raises(TApplicationException) as raised:
            client.buy("guarded", None)
        until(lambda: len(made.spans) == 5)
    assert str(raised.value).startswith(f"heatshield-breaker: {entry_id}; retry-after: ")
    assert all(span.attributes[REJECTED] == entry_id for span in made.spans)
    assert all(span.status_code is StatusCode.UNSET for span in made.spans)


def test_an_error_that_stands_for_a_rejection_is_answered_as_one(service, thrift):
    service()

    class Asking:
        def ping(self):
            raise SoldOutError

    with serving(TProcessor(thrift.Shop, Asking())) as port, asking(thrift, port) as client:
        with pytest.raises(TApplicationException) as raised:
            client.ping()
        with pytest.raises(heatshield.BreakerOpen) as refusal:
            heatshield.raise_for_rejection(raised.value)
    assert (refusal.value.entry_id, refusal.value.retry_after_s) == ("b-3", 4.0)


def test_a_refused_oneway_call_is_not_answered(service, until, thrift):
    """An answer that nobody reads would be taken for that of the next call."""
    made = service()
    made.trip("u-7", "Shop/note")
    handler = Handler(thrift)
    with serving(TProcessor(thrift.Shop, handler)) as port:
        with asking(thrift, port, user="u-7") as client:
            client.note("hello")
            assert client.owned(thrift.Actor("u-7")) == ["cat", "u-7"]
        with asking(thrift, port, user="u-8") as client:
            client.note("hi")
        until(lambda: handler.notes)
    assert handler.notes == ["hi"]
