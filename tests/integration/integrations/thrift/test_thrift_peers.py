"""Thrift beside tracking, over HTTP, with simple servers, and with peers without heatshield."""

import json
import threading
from contextlib import ExitStack
from contextvars import copy_context

import pytest
from opentelemetry.trace import SpanKind, get_tracer
from thrift_peers import (
    OLD_CLIENT,
    OLD_SERVER,
    PROTOCOLS,
    TRANSPORTS,
    WIRES,
    As,
    Handler,
    Tracked,
    _serve_three,
    asking,
    both_ends,
    old_peer,
    serving,
)
from thriftpy2.contrib.tracking import TrackerBase, TTrackedClient
from thriftpy2.http import client_context as http_client_context
from thriftpy2.http import make_server as make_http_server
from thriftpy2.thrift import (
    TApplicationException,
    TClient,
    TProcessor,
)
from thriftpy2.transport import (
    TSocket,
)

import heatshield


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
