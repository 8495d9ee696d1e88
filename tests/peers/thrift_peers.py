"""A Thrift service, its servers and clients over real sockets, in every wire format."""

import asyncio
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path

import pytest
from opentelemetry.context import attach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind
from thriftpy2.contrib.aio.processor import TAsyncProcessor
from thriftpy2.contrib.aio.server import TAsyncServer
from thriftpy2.contrib.aio.socket import TAsyncServerSocket
from thriftpy2.contrib.tracking import TrackerBase, TTrackedProcessor
from thriftpy2.protocol import (
    TApacheJSONProtocolFactory,
    TBinaryProtocolFactory,
    TCompactProtocolFactory,
    TJSONProtocolFactory,
)
from thriftpy2.protocol.binary import TBinaryProtocolFactory as TPythonBinaryProtocolFactory
from thriftpy2.rpc import client_context
from thriftpy2.server import TSimpleServer, TThreadedServer
from thriftpy2.thrift import (
    TProcessor,
    TProcessorFactory,
)
from thriftpy2.transport import (
    TBufferedTransportFactory,
    TFramedTransportFactory,
    TServerSocket,
)
from thriftpy2.transport.buffered import (
    TBufferedTransportFactory as TPythonBufferedTransportFactory,
)

import heatshield
from heatshield.context.request import Request, request_in, with_request

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


class SoldOutError(Exception):
    """As another library's error would be that stands for a rejection."""

    heatshield_rejection = heatshield.BreakerOpen("b-3", 4.0)


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


def _serve_three(made, until, thrift):
    attach(with_request(Request(user="whoever started it")))
    with serving(TProcessor(thrift.Shop, Handler(thrift)), kind=TSimpleServer) as port:
        for user in ("u-1", "u-2"):
            with asking(thrift, port, user=user) as client:
                client.ping()
        with asking(thrift, port) as client, suppress_instrumentation():
            client.ping()  # as a client would that is not instrumented
        until(lambda: len(made.spans) == 5)


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
