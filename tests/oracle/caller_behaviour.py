"""What every HTTP client's integration must do, as tests that a library's own class inherits.

A test module subclasses :class:`CallerBehaviour` and has a fixture ``client`` with the methods
``ask(url, method="GET", body=None, headers=None)``, which reads the answer whole and returns
``(status, body)``; ``open(url)``, which returns an answer that is not read yet, with ``read()`` and
``close()``. ``hops`` are the spans of a call that is redirected once.
"""

import gc
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, StatusCode, get_tracer

import heatshield
from heatshield.names import CALL, COST_BYTES, ENDUSER_ID, REJECTED

STRANGE = "00-11111111111111111111111111111111-2222222222222222-01"

STRANGERS = {
    "TraceParent": STRANGE,
    "tracestate": "theirs=1",
    "Baggage": "enduser.id=victim,theirs=1",
    "b3": "11111111111111111111111111111111-2222222222222222-1",
    "X-B3-TraceId": "11111111111111111111111111111111",
    "X-B3-SpanId": "2222222222222222",
    "X-B3-ParentSpanId": "3333333333333333",
    "X-B3-Sampled": "0",
    "X-B3-Flags": "1",
}
"""What a stranger sends to a gateway that copies its caller's headers to its own call."""

FIELDS = {name.lower() for name in STRANGERS}


def of_no_user(work):
    """Serve a request that names no user, as an edge does; returns the result of ``work``."""
    token = attach(extract({}))
    try:
        with get_tracer("test").start_as_current_span("serve", kind=SpanKind.SERVER):
            return work()
    finally:
        detach(token)


ANSWERS = {
    "/ok": (200, {}, b"ok"),
    "/large": (200, {}, b"x" * 1_000_000),
    "/moved": (302, {"location": "/ok"}, b""),
    "/missing": (404, {}, b""),
    "/unavailable": (503, {}, b""),
    "/rejected": (503, {"heatshield-breaker": "b-9", "retry-after": "1"}, b""),
}
"""What a :class:`Peer` answers. Beside these it has ``/echo``; ``/chunked``, 3,000 bytes in three
chunks; ``/away``, a redirect to another host's name; ``/flaky``, 503 twice; ``/never``, and
``/hang-up``."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = urlsplit(self.path).path
        names = {name.lower() for name in self.headers}
        headers = {name: ",".join(self.headers.get_all(name)) for name in names}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.asked.append((self.command, path, headers))
        if path in ANSWERS:
            self.answer(*ANSWERS[path])
        elif path == "/echo":
            self.answer(200, {}, body)
        elif path == "/chunked":
            self.answer_in_chunks()
        elif path == "/away":
            self.answer(302, {"location": f"http://localhost:{self.server.server_port}/ok"}, b"")
        elif path == "/flaky":
            times = sum(path == "/flaky" for _, path, _ in self.server.asked)
            self.answer(200 if times > 2 else 503, {}, b"")
        else:
            self.close_connection = True
            if path == "/never":
                self.server.closed.wait(10)

    do_POST = do_GET  # noqa: N815  # the standard library's name

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_in_chunks(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"3e8\r\n" + b"x" * 1_000 + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that go away are what some tests are about."""


class Peer:
    """A real server that keeps what it was asked."""

    def __init__(self):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.asked = self.asked = []
        self.server.closed = threading.Event()
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.closed.set()
        self.server.shutdown()
        self.server.server_close()


def of_user(user, work):
    """Do something on a user's behalf, within a server span ``serve``; returns its result."""
    token = attach(extract({}))
    try:
        with get_tracer("test").start_as_current_span("serve", kind=SpanKind.SERVER):
            heatshield.user(user)
            return work()
    finally:
        detach(token)


class CallerBehaviour:
    """Tests; a subclass says what its library does differently."""

    hops = 2
    failures = Exception

    @pytest.fixture
    def peer(self):
        made = Peer()
        yield made
        made.close()

    def test_a_call_is_one_span_and_tells_trace_and_user(self, service, client, peer):
        shop = service()
        assert client.ask(f"{peer.url}/ok?a=b") == (200, b"ok")
        (span,) = shop.spans
        assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
        expected = {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "server.address": "127.0.0.1",
            "server.port": peer.port,
            "url.full": f"{peer.url}/ok?a=b",
        }
        assert {name: span.attributes.get(name) for name in expected} == expected
        assert span.status.status_code is StatusCode.UNSET
        ((method, path, headers),) = peer.asked
        assert (method, path) == ("GET", "/ok")
        assert headers["traceparent"] == f"00-{span.trace_id:032x}-{span.span_id:016x}-01"
        assert headers["x-b3-spanid"] == f"{span.span_id:016x}"

    def test_a_call_belongs_to_the_request_it_is_made_for(self, service, client, peer):
        shop = service()
        of_user("u-1", lambda: client.ask(f"{peer.url}/ok"))
        call, serve = shop.spans
        assert call.parent_id == serve.span_id
        assert (call.attributes[ENDUSER_ID], call.attributes[CALL]) == ("u-1", "serve")
        assert peer.asked[0][2]["baggage"] == "enduser.id=u-1"

    def test_bytes_both_ways_are_its_cost(self, service, client, peer):
        shop = service()
        body = b"x" * 3_000
        assert client.ask(f"{peer.url}/echo", "POST", body) == (200, body)
        (span,) = shop.spans
        assert span.name == "POST"
        assert span.attributes["http.request.body.size"] == 3_000
        assert span.attributes["http.response.body.size"] == 3_000
        assert span.attributes[COST_BYTES] == 6_000

    def test_an_answer_of_unknown_length_counts_too(self, service, client, peer):
        shop = service()
        assert client.ask(f"{peer.url}/chunked") == (200, b"x" * 3_000)
        (span,) = shop.spans
        assert span.attributes[COST_BYTES] == 3_000

    def test_a_call_lasts_until_its_answer_was_read(self, service, client, peer):
        shop = service()
        answer = client.open(f"{peer.url}/large")
        assert shop.spans == []
        assert len(answer.read()) == 1_000_000
        (span,) = shop.spans
        assert span.attributes[COST_BYTES] == 1_000_000
        answer.close()
        assert len(shop.spans) == 1

    def test_a_call_ends_when_its_answer_is_closed_unread(self, service, client, peer):
        shop = service()
        client.open(f"{peer.url}/large").close()
        (span,) = shop.spans
        assert span.attributes["http.response.status_code"] == 200

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_call_whose_answer_nobody_reads_is_ended_by_the_next(self, service, client, peer):
        """The garbage collector must not send: it comes while any lock may be held."""
        shop = service()
        client.open(f"{peer.url}/large?abandoned")
        gc.collect()
        assert shop.spans == []
        client.ask(f"{peer.url}/ok")
        addresses = [span.attributes["url.full"] for span in shop.spans]
        assert addresses == [f"{peer.url}/large?abandoned", f"{peer.url}/ok"]

    def test_a_rejection_is_marked_and_no_error(self, service, client, peer):
        shop = service()
        assert client.ask(f"{peer.url}/rejected")[0] == 503
        (span,) = shop.spans
        assert span.attributes[REJECTED] == "b-9"
        assert span.status.status_code is StatusCode.UNSET
        assert len(peer.asked) == 1

    @pytest.mark.parametrize("path", ["missing", "unavailable"])
    def test_other_bad_answers_are_errors(self, service, client, peer, path):
        shop = service()
        client.ask(f"{peer.url}/{path}")
        (span,) = shop.spans
        assert span.status.status_code is StatusCode.ERROR
        assert REJECTED not in span.attributes

    def test_no_answer_is_an_error_as_it_was(self, service, client, peer):
        shop = service()
        with pytest.raises(self.failures) as caught:
            client.ask(f"{peer.url}/hang-up", "POST", b"x")
        (span,) = shop.spans
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == type(caught.value).__qualname__
        assert [event.name for event in span.events] == ["exception"]

    def test_a_redirect_is_followed_in_the_same_trace(self, service, client, peer):
        shop = service()
        assert of_user("u-1", lambda: client.ask(f"{peer.url}/moved")) == (200, b"ok")
        *calls, serve = shop.spans
        assert len(calls) == self.hops
        assert {span.parent_id for span in calls} == {serve.span_id}
        told = {headers["traceparent"][36:52] for _, _, headers in peer.asked}
        assert told == {f"{span.span_id:016x}" for span in calls}

    def test_hosts_that_are_not_to_be_told_are_not_after_a_redirect_either(
        self, service, client, peer
    ):
        service(propagate_to=("127.0.0.1",))
        of_user("u-1", lambda: client.ask(f"{peer.url}/away"))
        told = [headers.keys() & {"traceparent", "baggage"} for _, _, headers in peer.asked]
        assert told == [{"traceparent", "baggage"}, set()]

    def test_headers_that_were_copied_from_elsewhere_are_replaced(self, service, client, peer):
        shop = service()
        copied = {"Traceparent": STRANGE, "X-Own": "1", "Baggage": "enduser.id=u-99"}
        of_user("u-1", lambda: client.ask(f"{peer.url}/ok", headers=copied))
        headers = peer.asked[0][2]
        assert f"{shop.spans[0].span_id:016x}" in headers["traceparent"]
        assert "," not in headers["traceparent"]
        assert headers["baggage"] == "enduser.id=u-1"
        assert headers["x-own"] == "1"
        assert copied["Traceparent"] == STRANGE

    @pytest.mark.parametrize("settings", [{"edge": True}, {}])
    def test_nothing_that_a_stranger_named_is_handed_on(self, service, client, peer, settings):
        """Where the request has no user, no baggage of ours would stand in the place of theirs."""
        shop = service(**settings)
        copied = dict(STRANGERS)
        of_no_user(lambda: client.ask(f"{peer.url}/moved", headers=copied))
        assert len(peer.asked) == 2
        ours = {"traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}
        for _, _, headers in peer.asked:
            assert headers.keys() & FIELDS == ours
            assert headers["traceparent"][3:35] == headers["x-b3-traceid"]
            assert headers["x-b3-traceid"] == f"{shop.spans[0].trace_id:032x}"
            assert headers["x-b3-sampled"] == "1"
        assert copied == STRANGERS

    def test_a_host_that_is_left_out_is_told_of_no_strangers_either(self, service, client, peer):
        service(propagate_to=("*.internal",))
        headers = {**STRANGERS, "X-Own": "1"}
        of_user("u-1", lambda: client.ask(f"{peer.url}/ok", headers=headers))
        told = peer.asked[0][2]
        assert told.keys() & FIELDS == set()
        assert told["x-own"] == "1"

    def test_credentials_are_not_in_the_span(self, service, client, peer):
        shop = service()
        client.ask(f"http://alice:secret@127.0.0.1:{peer.port}/ok")
        (span,) = shop.spans
        assert "secret" not in str(dict(span.attributes))
        assert span.attributes["server.address"] == "127.0.0.1"

    def test_what_is_not_to_be_seen_makes_no_span(self, service, client, peer):
        shop = service()
        with suppress_instrumentation():
            client.ask(f"{peer.url}/ok")
        assert shop.spans == []
        assert "traceparent" not in peer.asked[0][2]

    def test_calls_side_by_side_keep_their_users(self, service, make_client, peer):
        shop = service()

        def work(user):
            client = make_client()
            for _ in range(3):
                of_user(user, lambda: client.ask(f"{peer.url}/chunked"))

        users = [f"u-{number}" for number in range(6)]
        threads = [threading.Thread(target=work, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spans = {f"{span.span_id:016x}": span for span in shop.spans}
        assert len(peer.asked) == 18
        for _, _, headers in peer.asked:
            call = spans[headers["traceparent"][36:52]]
            assert headers["baggage"] == f"enduser.id={call.attributes[ENDUSER_ID]}"

    def test_after_shutdown_nothing_is_sent(self, service, client, peer):
        service()
        client.ask(f"{peer.url}/ok")
        heatshield.shutdown()
        assert client.ask(f"{peer.url}/ok") == (200, b"ok")
        assert ["traceparent" in headers for _, _, headers in peer.asked] == [True, False]
