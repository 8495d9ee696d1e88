"""thriftpy2 over real sockets: spans, users, errors."""

import asyncio

import pytest
from opentelemetry.context import attach
from opentelemetry.trace import SpanKind, StatusCode
from thrift_peers import (
    PROGRAM,
    PROTOCOLS,
    Handler,
    asking,
    both_ends,
    every_wire,
    serving,
    serving_async,
)
from thriftpy2.contrib.aio.processor import TAsyncProcessor
from thriftpy2.contrib.aio.rpc import make_client as make_aio_client
from thriftpy2.protocol import (
    TMultiplexedProtocolFactory,
)
from thriftpy2.thrift import (
    TApplicationException,
    TClient,
    TMultiplexedProcessor,
    TProcessor,
)
from thriftpy2.transport import (
    TTransportException,
)

import heatshield
from heatshield.context.request import Request, request_in, with_request
from heatshield.names import REJECTED


@every_wire
def test_a_call_has_two_spans_of_one_trace_with_its_user(service, until, thrift, wire):
    made = service()
    handler = Handler(thrift)
    with serving(TProcessor(thrift.Shop, handler), wire) as port:
        with asking(thrift, port, wire, user="u-7") as client:
            assert client.buy("cat", thrift.Actor("u-7")) == "cat for u-7"
            assert client.owned(thrift.Actor("ü-7")) == ["cat", "ü-7"]
            client.ping()
        until(lambda: len(made.spans) == 6)
    assert handler.users == ["u-7"]
    for name in ("buy", "owned", "ping"):
        client, server = both_ends(made, name)
        assert (server.trace_id, server.parent_id) == (client.trace_id, client.span_id)
        assert (server.user, server.call) == ("u-7", f"Shop/{name}")
        assert server.attributes["rpc.service"] == "Shop"
        assert server.attributes["rpc.method"] == name
        assert server.status_code is client.status_code is StatusCode.UNSET


def test_the_same_with_async_peers(service, until, thrift):
    made = service()

    class Async:
        async def buy(self, sticker, _actor):
            await asyncio.sleep(0)
            return f"{sticker} for {request_in().user}"

    async def main(port):
        attach(with_request(Request(user="u-7")))
        client = await make_aio_client(thrift.Shop, "127.0.0.1", port)
        assert await client.buy("cat", None) == "cat for u-7"
        made.trip("u-7", "Shop/buy")
        with pytest.raises(TApplicationException) as raised:
            await client.buy("cat", None)
        with pytest.raises(TApplicationException):
            await client.buy("dog", None)  # the connection lives on
        client.close()
        return raised.value

    with serving_async(thrift.Shop, Async()) as port:
        error = asyncio.run(main(port))
        assert heatshield.is_rejection(error)
        until(lambda: len(made.spans) == 6)
    servers = [span for span in made.spans if span.kind is SpanKind.SERVER]
    clients = {span.span_id for span in made.spans if span.kind is SpanKind.CLIENT}
    assert {span.parent_id for span in servers} == clients
    assert [span.attributes.get(REJECTED) for span in servers] == [None, "b-1", "b-1"]


# -- errors and refusals ---------------------------------------------------------------------------


def test_a_declared_exception_is_an_answer_and_any_other_an_error(service, until, thrift):
    made = service()
    with serving(TProcessor(thrift.Shop, Handler(thrift))) as port:
        with asking(thrift, port) as client:
            with pytest.raises(thrift.SoldOut) as raised:
                client.buy("dog", None)
            assert raised.value.sticker == "dog"
        until(lambda: len(made.spans) == 2)
        client, server = both_ends(made)
        assert (server.status_code, client.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
        made.spans.clear()
        with asking(thrift, port) as client, pytest.raises(TTransportException):
            client.buy("crash", None)  # as ever: thriftpy2 closes the connection
        until(lambda: len(made.spans) == 2)
    client, server = both_ends(made)
    assert (server.status_code, client.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert [event.attributes["exception.message"] for event in server.events] == ["no stock"]


# -- users -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["actor.id", "actor.id.more", "nobody", "sticker"])
def test_an_argument_may_name_the_user(service, until, thrift, path):
    made = service(user_thrift_field=path)
    with serving(TProcessor(thrift.Shop, Handler(thrift))) as port:
        with asking(thrift, port) as client:
            client.buy("cat", thrift.Actor("u-9"))
            client.buy("cat", None)
            client.ping()
        until(lambda: len(made.spans) == 6)
    users = [span.user for span in made.spans if span.kind is SpanKind.SERVER]
    cat = "cat" if path == "sticker" else None
    assert users == ["u-9" if path == "actor.id" else cat, cat, None]


def test_the_handler_may_name_the_user(service, until, thrift):
    made = service()
    entry_id = made.trip("u-9", "Shop/owned")

    class Naming:
        def owned(self, actor):
            heatshield.user(actor.id)
            pytest.fail("it went on")

    with serving(TProcessor(thrift.Shop, Naming())) as port:
        with asking(thrift, port) as client, pytest.raises(TApplicationException) as raised:
            client.owned(thrift.Actor("u-9"))
        until(lambda: len(made.spans) == 2)
    assert entry_id in str(raised.value)
    assert both_ends(made, "owned")[1].user == "u-9"


# -- processors of other kinds ---------------------------------------------------------------------


def test_a_multiplexed_service(service, until, thrift):
    made = service()
    handler = Handler(thrift)
    processor = TMultiplexedProcessor()
    processor.register_processor("shop", TProcessor(thrift.Shop, handler))
    wire = (TMultiplexedProtocolFactory(PROTOCOLS["binary"], "shop"), "buffered")
    with serving(processor) as port:
        with asking(thrift, port, wire, user="u-7") as client:
            assert client.buy("cat", None) == "cat for nobody"
            made.trip("u-7", "Shop/buy")
            with pytest.raises(TApplicationException) as raised:
                client.buy("cat", None)
        until(lambda: len(made.spans) == 4)
    assert heatshield.is_rejection(raised.value)
    assert handler.users == ["u-7"]


# -- coming and going ------------------------------------------------------------------------------


def test_taken_out_it_leaves_the_library_as_it_was(service):
    before = (TClient._send, TProcessor.process_in, TAsyncProcessor.send_result)
    made = service()
    assert TClient._send is not before[0]
    made.runtime.integrations.remove_all()
    assert (TClient._send, TProcessor.process_in, TAsyncProcessor.send_result) == before


def test_it_comes_with_the_import_of_the_library_and_its_parts(run_python):
    done = run_python(PROGRAM)
    assert (done.returncode, done.stdout.strip()) == (0, "active"), done.stderr
