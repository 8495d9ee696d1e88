"""thriftpy2 over real sockets: spans, users, refusals; and peers that know nothing of all this."""

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from pathlib import Path

import pytest
import thriftpy2
from opentelemetry.context import attach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode, get_tracer
from thriftpy2.contrib.aio.processor import TAsyncProcessor
from thriftpy2.contrib.aio.rpc import make_client as make_aio_client
from thriftpy2.contrib.aio.server import TAsyncServer
from thriftpy2.contrib.aio.socket import TAsyncServerSocket
from thriftpy2.contrib.tracking import TrackerBase, TTrackedClient, TTrackedProcessor
from thriftpy2.http import client_context as http_client_context
from thriftpy2.http import make_server as make_http_server
from thriftpy2.protocol import (
    TApacheJSONProtocolFactory,
    TBinaryProtocolFactory,
    TCompactProtocolFactory,
    TJSONProtocolFactory,
    TMultiplexedProtocolFactory,
)
from thriftpy2.protocol.binary import TBinaryProtocolFactory as TPythonBinaryProtocolFactory
from thriftpy2.rpc import client_context
from thriftpy2.server import TSimpleServer, TThreadedServer
from thriftpy2.thrift import (
    TApplicationException,
    TClient,
    TMultiplexedProcessor,
    TProcessor,
    TProcessorFactory,
)
from thriftpy2.transport import (
    TBufferedTransportFactory,
    TFramedTransportFactory,
    TServerSocket,
    TSocket,
    TTransportException,
)
from thriftpy2.transport.buffered import (
    TBufferedTransportFactory as TPythonBufferedTransportFactory,
)

import heatshield
from heatshield.context.request import Request, request_in, with_request
from heatshield.names import REJECTED

IDL = """
struct Actor { 1: string id }
exception SoldOut { 1: string sticker }
service Shop {
    string buy(1: string sticker, 2: Actor actor) throws (1: SoldOut sold_out),
    list<string> owned(3: Actor actor),
    void ping(),
    oneway void note(1: string text),
}
"""

PROTOCOLS = {
    "binary": TBinaryProtocolFactory(),
    "python": TPythonBinaryProtocolFactory(),
    "compact": TCompactProtocolFactory(),
    "json": TJSONProtocolFactory(),
    "apache": TApacheJSONProtocolFactory(),
}
TRANSPORTS = {
    "buffered": TBufferedTransportFactory(),
    "framed": TFramedTransportFactory(),
    "python": TPythonBufferedTransportFactory(),
}
PLAIN = ("binary", "buffered")
WIRES = [
    PLAIN,
    ("binary", "framed"),
    ("python", "python"),
    ("compact", "buffered"),
    ("json", "buffered"),
]
every_wire = pytest.mark.parametrize("wire", WIRES, ids="-".join)


@pytest.fixture(scope="module")
def idl(tmp_path_factory):
    path = tmp_path_factory.mktemp("idl") / "shop.thrift"
    path.write_text(IDL)
    return path


@pytest.fixture(scope="module")
def thrift(idl):
    return thriftpy2.load(str(idl), module_name="shop_thrift")


class Handler:
    """Sells cats; whom it saw stands in ``users``."""

    def __init__(self, thrift):
        self._thrift = thrift
        self.users, self.notes = [], []

    def buy(self, sticker, actor):
        self.users.append(getattr(request_in(), "user", None))
        if sticker == "dog":
            raise self._thrift.SoldOut(sticker)
        if sticker == "crash":
            raise ValueError("no stock")
        if sticker == "guarded":
            with heatshield.guard("report"):
                pass
        return f"{sticker} for {actor.id if actor else 'nobody'}"

    def owned(self, actor):
        return ["cat", actor.id]

    def ping(self):
        pass

    def note(self, text):
        self.notes.append(text)


class Listener(TServerSocket):
    """Knows its port before the server listens, which is after its thread has begun."""

    def __init__(self):
        super().__init__(host="127.0.0.1", port=0, client_timeout=5_000)
        super().listen()
        self.port = self.sock.getsockname()[1]

    def listen(self):
        pass


@contextmanager
def serving(processor, wire=PLAIN, kind=TThreadedServer):
    """A real server in a thread, and in the context of whoever starts it; its port."""
    listener = Listener()
    protocol, transport = (PROTOCOLS.get(wire[0], wire[0]), TRANSPORTS[wire[1]])
    server = kind(processor, listener, iprot_factory=protocol, itrans_factory=transport)

    def serve():
        with suppress(OSError):  # the simple server's, when its listener is closed
            server.serve()

    thread = threading.Thread(target=copy_context().run, args=(serve,), daemon=True)
    thread.start()
    yield listener.port
    server.close()
    listener.close()
    thread.join(5)


@contextmanager
def asking(thrift, port, wire=PLAIN, user=None):
    """A client within a request of ``user``."""
    protocol, transport = (PROTOCOLS.get(wire[0], wire[0]), TRANSPORTS[wire[1]])
    with client_context(
        thrift.Shop, "127.0.0.1", port, proto_factory=protocol, trans_factory=transport
    ) as client:
        yield client if user is None else As(client, user)


class As:
    """A client whose calls are made within a request of one user."""

    def __init__(self, client, user):
        self._client, self._user = client, user

    def __getattr__(self, name):
        def call(*args):
            attach(with_request(Request(user=self._user)))
            return getattr(self._client, name)(*args)

        return lambda *args: copy_context().run(call, *args)


def both_ends(made, name="buy"):
    spans = {span.kind: span for span in made.spans if span.name == f"Shop/{name}"}
    assert len(spans) == len([span for span in made.spans if span.name == f"Shop/{name}"])
    return spans[SpanKind.CLIENT], spans[SpanKind.SERVER]


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


class Listening(TAsyncServerSocket):
    def listen(self):
        super().listen()
        self.port = self.raw_sock.getsockname()[1]


@contextmanager
def serving_async(service, handler):
    ready, loop = threading.Event(), asyncio.new_event_loop()
    listener = Listening(host="127.0.0.1", port=0)
    server = TAsyncServer(TAsyncProcessor(service, handler), listener, loop=loop)

    def serve():
        loop.call_soon(ready.set)
        server.serve()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(5)
    yield listener.port
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


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


class SoldOutError(Exception):
    """As another library's error would be that stands for a rejection."""

    heatshield_rejection = heatshield.BreakerOpen("b-3", 4.0)


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


class Tracked:
    """A server of thriftpy2's own tracking: a processor a connection, after a handshake."""

    def __init__(self, thrift, handler):
        self._make = TProcessorFactory(
            TTrackedProcessor, TrackerBase("client", "server"), thrift.Shop, handler
        ).get_processor
        self._of_thread = threading.local()

    def process(self, iprot, oprot):
        if not hasattr(self._of_thread, "processor"):
            self._of_thread.processor = self._make()
        self._of_thread.processor.process(iprot, oprot)


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked client", "plain client"])
def test_beside_thriftpy2s_own_tracking(service, until, thrift, tracked):
    made = service()
    handler = Handler(thrift)
    with serving(Tracked(thrift, handler)) as port:
        transport = TRANSPORTS["buffered"].get_transport(TSocket("127.0.0.1", port))
        transport.open()
        protocol = PROTOCOLS["binary"].get_protocol(transport)
        if tracked:
            client = TTrackedClient(TrackerBase("client", "server"), thrift.Shop, protocol)
        else:
            client = TClient(thrift.Shop, protocol)
        client = As(client, "u-7")
        assert client.buy("cat", None) == "cat for nobody"
        made.trip("u-7", "Shop/buy")
        with pytest.raises(TApplicationException) as raised:
            client.buy("cat", None)
        assert client.owned(thrift.Actor("u-7")) == ["cat", "u-7"]
        transport.close()
        until(lambda: len(made.spans) == 6)
    assert heatshield.is_rejection(raised.value)
    assert handler.users == ["u-7"]


@pytest.mark.parametrize("protocol", ["binary", "apache"])
def test_over_http(service, until, thrift, protocol):
    """There each call has a connection of its own, as Apache's JSON wants it."""
    made = service()
    factory = PROTOCOLS[protocol]
    server = make_http_server(thrift.Shop, Handler(thrift), "127.0.0.1", 0, factory)
    port = server.httpd.server_address[1]
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()

    def ask(name, *args):
        with http_client_context(thrift.Shop, "127.0.0.1", port, proto_factory=factory) as client:
            return getattr(As(client, "u-7"), name)(*args)

    assert ask("buy", "cat", None) == "cat for nobody"
    made.trip("u-7", "Shop/ping")
    with pytest.raises(TApplicationException) as raised:
        ask("ping")
    assert heatshield.is_rejection(raised.value)
    until(lambda: len(made.spans) == 4)
    server.httpd.shutdown()
    server.httpd.server_close()
    client, server = both_ends(made)
    assert (server.user, server.parent_id) == ("u-7", client.span_id)


def test_a_simple_server_does_not_mix_calls_of_different_users(service, until, thrift):
    made = service()
    with get_tracer("test").start_as_current_span("startup"):
        copy_context().run(_serve_three, made, until, thrift)
    servers = [span for span in made.spans if span.kind is SpanKind.SERVER]
    assert [span.user for span in servers] == ["u-1", "u-2", None]
    assert servers[2].parent_id == 0
    assert servers[2].trace_id != servers[1].trace_id


def _serve_three(made, until, thrift):
    attach(with_request(Request(user="whoever started it")))
    with serving(TProcessor(thrift.Shop, Handler(thrift)), kind=TSimpleServer) as port:
        for user in ("u-1", "u-2"):
            with asking(thrift, port, user=user) as client:
                client.ping()
        with asking(thrift, port) as client, suppress_instrumentation():
            client.ping()  # as a client would that is not instrumented
        until(lambda: len(made.spans) == 5)


# -- peers that are not instrumented ---------------------------------------------------------------

OLD_SERVER = """
import json, sys, threading, thriftpy2
from thriftpy2.server import TThreadedServer
from thriftpy2.thrift import TProcessor
sys.path.insert(0, {folder!r})
from {module} import Handler, Listener, PROTOCOLS, TRANSPORTS, WIRES
thrift = thriftpy2.load({idl!r}, module_name="shop_thrift")
ports = []
for protocol, transport in WIRES:
    listener = Listener()
    server = TThreadedServer(
        TProcessor(thrift.Shop, Handler(thrift)), listener,
        iprot_factory=PROTOCOLS[protocol], itrans_factory=TRANSPORTS[transport],
    )
    threading.Thread(target=server.serve, daemon=True).start()
    ports.append(listener.port)
print(json.dumps(ports), flush=True)
sys.stdin.read()
"""

OLD_CLIENT = """
import json, sys, thriftpy2
sys.path.insert(0, {folder!r})
from {module} import PROTOCOLS, TRANSPORTS, WIRES, asking
thrift = thriftpy2.load({idl!r}, module_name="shop_thrift")
found = []
for wire, port in zip(WIRES, {ports}):
    with asking(thrift, port, wire) as client:
        found.append([client.buy("cat", thrift.Actor("u-1")), client.owned(thrift.Actor("u-1"))])
        try:
            client.buy("dog", None)
        except thrift.SoldOut as error:
            found[-1].append(error.sticker)
        try:
            client.owned(thrift.Actor("u-9"))
        except thriftpy2.thrift.TApplicationException as error:
            found[-1].append(error.message)
        client.ping()
print(json.dumps(found))
"""


def old_peer(program, idl, **values):
    """A program in an interpreter without heatshield."""
    here = Path(__file__)
    text = program.format(folder=str(here.parent), module=here.stem, idl=str(idl), **values)
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"HEATSHIELD_ENABLED": "false"},
    )


def test_an_old_server_serves_an_instrumented_client(service, thrift, idl):
    made = service()
    with old_peer(OLD_SERVER, idl) as server:
        for wire, port in zip(WIRES, json.loads(server.stdout.readline()), strict=True):
            with asking(thrift, port, wire, user="u-7") as client:
                assert client.buy("cat", thrift.Actor("u-7")) == "cat for u-7"
                assert client.owned(thrift.Actor("u-7")) == ["cat", "u-7"]
                with pytest.raises(thrift.SoldOut):
                    client.buy("dog", None)
                client.note("hello")
                client.ping()
        server.stdin.close()
    assert {span.kind for span in made.spans} == {SpanKind.CLIENT}
    assert len(made.spans) == 5 * len(WIRES)


def test_an_old_client_is_served_and_refused_by_an_instrumented_server(service, thrift, idl):
    """It gets to see a refusal as an exception with a message that it can read."""
    made = service(user_thrift_field="actor.id")
    handler = Handler(thrift)
    processor = TProcessor(thrift.Shop, handler)
    entry_id = made.trip("u-9", "Shop/owned")
    with ExitStack() as stack:
        ports = [stack.enter_context(serving(processor, wire)) for wire in WIRES]
        with old_peer(OLD_CLIENT, idl, ports=ports) as client:
            found = json.loads(client.communicate(timeout=30)[0])
    for bought, owned, sold_out, refused in found:
        assert (bought, owned, sold_out) == ("cat for u-1", ["cat", "u-1"], "dog")
        assert refused.startswith(f"heatshield-breaker: {entry_id}; retry-after: ")
    assert all(span.parent_id == 0 for span in made.spans)
    assert len(made.spans) == 5 * len(WIRES)


# -- coming and going ------------------------------------------------------------------------------


def test_taken_out_it_leaves_the_library_as_it_was(service):
    before = (TClient._send, TProcessor.process_in, TAsyncProcessor.send_result)
    made = service()
    assert TClient._send is not before[0]
    made.runtime.integrations.remove_all()
    assert (TClient._send, TProcessor.process_in, TAsyncProcessor.send_result) == before


PROGRAM = """
import heatshield
heatshield.instrument(service="shop")
import thriftpy2
from thriftpy2.rpc import make_client
from thriftpy2.contrib.aio.client import TAsyncClient
from thriftpy2.contrib.tracking import TTrackedProcessor
print(heatshield.status()["integrations"]["thrift"])
for patched in (TAsyncClient._send, TTrackedProcessor._process_in, thriftpy2.thrift.TClient._req):
    assert patched.__wrapped__
"""


def test_it_comes_with_the_import_of_the_library_and_its_parts(run_python):
    done = run_python(PROGRAM)
    assert (done.returncode, done.stdout.strip()) == (0, "active"), done.stderr
