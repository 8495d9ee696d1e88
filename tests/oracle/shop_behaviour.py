"""What every HTTP server's integration must do, as tests that a framework's own class inherits.

A test module subclasses :class:`ShopBehaviour`, says how its framework writes the template of a
route (``template``), and has a fixture ``open_shop`` that starts a real server of this shop:

========================  ========================================================================
``POST /purchases/USER``  notes the user in ``ran``; buys
``POST /echo``            answers with the request's body
``GET /stream``           three chunks of 1,000 bytes, each from within a span ``chunk``
``GET /fails``            divides by zero
``GET /named/USER``       names the user by ``heatshield.user`` in its handler, then notes it
``GET /guarded/USER``     runs the guard ``refresh``
``GET /handed-on``        hands on a downstream rejection with the id ``b-99``, retry after 7 s
``GET /own-words``        answers a rejection with the id ``b-98`` itself
``GET /healthz``          answers
========================  ========================================================================

Its middleware names the user of the header ``x-session``, if there is one.
"""

import threading
from dataclasses import dataclass, field

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from heatshield.breakers.watch import Watch
from heatshield.identity.wire_id import wire_id
from heatshield.names import CALL, COST_BYTES, ENDUSER_ID, REJECTED

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Shop:
    """A shop that is open.

    Attributes:
        url: of its server.
        ran: users whose purchases and names reached a handler.
    """

    url: str = ""
    ran: list = field(default_factory=list)


class ShopBehaviour:
    """Tests; a subclass says what its framework does differently."""

    template = staticmethod(lambda path: path)
    """From a path with ``USER`` in the place of a parameter to the framework's template."""

    def call(self, method, path):
        return f"{method} {self.template(path)}"

    @property
    def buy(self):
        return self.call("POST", "/purchases/USER")

    # -- what a request is ---------------------------------------------------------------------

    def test_a_request_makes_one_span_named_by_its_route(self, service, open_shop, ask, until):
        shop_service = service(user_path_parameter="user")
        shop = open_shop()
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "user-agent": "curl/8"}
        assert ask(f"{shop.url}/purchases/u-1", "POST", headers=headers).status == 200
        (span,) = until(lambda: list(shop_service.spans))
        assert (span.name, span.kind) == (self.buy, SpanKind.SERVER)
        assert f"{span.trace_id:032x}" == TRACE
        assert f"{span.parent_id:016x}" == PARENT
        expected = {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "http.route": self.template("/purchases/USER"),
            "url.path": "/purchases/u-1",
            "url.scheme": "http",
            "user_agent.original": "curl/8",
            "client.address": "127.0.0.1",
            CALL: self.buy,
            ENDUSER_ID: "u-1",
        }
        assert {name: span.attributes.get(name) for name in expected} == expected
        assert span.status.status_code is StatusCode.UNSET

    @pytest.mark.parametrize("user", ["unknown", "*", "Юрий", "李", "Zoë", "x" * 257])
    def test_a_user_of_any_name_is_refused_by_header(self, service, open_shop, ask, user):
        shop_service = service(user_header="x-user")
        shop = open_shop()
        entry_id = shop_service.trip(wire_id(user), self.buy)
        refused = ask(f"{shop.url}/purchases/1", "POST", headers={"x-user": user.encode()})
        assert (refused.status, refused.headers["heatshield-breaker"]) == (503, entry_id)
        other = {"x-user": f"{user}2".encode()}
        assert ask(f"{shop.url}/purchases/1", "POST", headers=other).status == 200

    def test_requests_without_a_caller_are_traces_of_their_own(
        self, service, open_shop, ask, until
    ):
        """Even if their server was started within a span."""
        shop_service = service()
        from opentelemetry.trace import get_tracer

        with get_tracer("test").start_as_current_span("main"):
            shop = open_shop()
            ask(f"{shop.url}/healthz")
            ask(f"{shop.url}/healthz")
        spans = until(lambda: len(shop_service.spans) == 3 and shop_service.spans)
        assert len({span.trace_id for span in spans}) == 3

    def test_paths_without_a_route_and_odd_methods_make_no_names(
        self, service, open_shop, ask, until
    ):
        shop_service = service()
        shop = open_shop()
        ask(f"{shop.url}/wp-admin/17")
        ask(f"{shop.url}/wp-admin/17", "PROPFIND")
        until(lambda: len(shop_service.spans) == 2)
        assert sorted(span.name for span in shop_service.spans) == ["GET", "HTTP"]
        assert {span.status.status_code for span in shop_service.spans} == {StatusCode.UNSET}

    def test_bytes_in_and_out_are_its_cost(self, service, open_shop, ask, until):
        shop_service = service()
        shop = open_shop()
        assert ask(f"{shop.url}/echo", "POST", body=b"x" * 3_000).body == b"x" * 3_000
        (span,) = until(lambda: list(shop_service.spans))
        assert span.attributes["http.request.body.size"] == 3_000
        assert span.attributes["http.response.body.size"] == 3_000
        assert span.attributes[COST_BYTES] == 6_000

    def test_a_streamed_answer_is_within_its_span(self, service, open_shop, ask, until):
        shop_service = service(user_header="x-user")
        shop = open_shop()
        answer = ask(f"{shop.url}/stream", headers={"x-user": "u-1"})
        assert answer.body == b"x" * 3_000
        spans = until(lambda: len(shop_service.spans) == 4 and shop_service.spans)
        *chunks, server = spans  # it ends after the last chunk
        assert server.name == self.call("GET", "/stream")
        assert [span.name for span in chunks] == ["chunk"] * 3
        assert {span.parent_id for span in chunks} == {server.span_id}
        assert {span.attributes[ENDUSER_ID] for span in chunks} == {"u-1"}
        assert 3_000 <= server.attributes[COST_BYTES] < 3_100  # and the framing of its chunks

    def test_an_error_is_its_own_and_told_once(self, service, open_shop, ask, until):
        shop_service = service()
        shop = open_shop()
        answer = ask(f"{shop.url}/fails")
        assert answer.status == 500
        assert "heatshield-breaker" not in answer.headers
        (span,) = until(lambda: list(shop_service.spans))
        assert span.name == self.call("GET", "/fails")
        assert span.status.status_code is StatusCode.ERROR
        (event,) = span.events
        assert event.attributes["exception.type"] == "ZeroDivisionError"

    def test_excluded_paths_make_no_spans(self, service, open_shop, ask, until):
        shop_service = service(excluded_paths=("/healthz",), user_path_parameter="user")
        shop = open_shop()
        assert ask(f"{shop.url}/healthz").status == 200
        assert ask(f"{shop.url}/purchases/u-1", "POST").status == 200
        until(lambda: list(shop_service.spans))
        assert [span.name for span in shop_service.spans] == [self.buy]

    def test_the_metrics_are_answered_where_a_service_wants_them(self, service, open_shop, ask):
        shop_service = service(metrics_path="/metrics")
        shop = open_shop()
        answer = ask(f"{shop.url}/metrics")
        assert answer.status == 200
        assert b"heatshield_service_requests" in answer.body
        assert shop_service.spans == []

    def test_breakers_are_followed_before_the_first_handler_runs(
        self, service, open_shop, ask, monkeypatch
    ):
        service()
        shops, ran_before = [], []
        monkeypatch.setattr(
            Watch, "start", lambda _: ran_before.append(sum(len(shop.ran) for shop in shops))
        )
        shops.append(open_shop())
        ask(f"{shops[0].url}/purchases/u-1", "POST")
        assert ran_before[0] == 0

    def test_requests_side_by_side_keep_their_users(self, service, open_shop, ask, until):
        shop_service = service(user_header="x-user")
        shop = open_shop()

        def buy(user):
            ask(f"{shop.url}/stream", headers={"x-user": user})

        users = [f"u-{number}" for number in range(8)]
        threads = [threading.Thread(target=buy, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spans = until(lambda: len(shop_service.spans) == 32 and shop_service.spans)
        by_trace = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span.attributes[ENDUSER_ID])
        assert sorted(map(tuple, by_trace.values())) == [(user,) * 4 for user in users]

    # -- who acts ---------------------------------------------------------------------

    def test_a_user_is_named_by_header_query_cookie_and_path(self, service, open_shop, ask, until):
        shop_service = service(
            user_header="x-user", user_query="as", user_cookie="who", user_path_parameter="user"
        )
        shop = open_shop()
        ask(f"{shop.url}/healthz", headers={"x-user": "u-header"})
        ask(f"{shop.url}/healthz?as=u-query")
        ask(f"{shop.url}/healthz", headers={"cookie": "a=b; who=u-cookie"})
        ask(f"{shop.url}/purchases/u-path", "POST")
        spans = until(lambda: len(shop_service.spans) == 4 and shop_service.spans)
        users = {span.attributes[ENDUSER_ID] for span in spans}
        assert users == {"u-header", "u-query", "u-cookie", "u-path"}

    # -- refusals ---------------------------------------------------------------------

    def test_a_tripped_user_is_refused_before_the_handler(self, service, open_shop, ask, until):
        shop_service = service(user_path_parameter="user")
        shop = open_shop()
        entry_id = shop_service.trip("u-1", self.buy)
        answer = ask(f"{shop.url}/purchases/u-1", "POST")
        self.assert_rejected(answer, entry_id)
        assert answer.headers["content-type"] == "application/json"
        assert b"refused by breaker" in answer.body
        assert ask(f"{shop.url}/purchases/u-2", "POST").status == 200
        assert shop.ran == ["u-2"]
        refused = until(lambda: [s for s in shop_service.spans if REJECTED in s.attributes])[0]
        assert refused.attributes[REJECTED] == entry_id
        assert refused.attributes["http.response.status_code"] == 503
        assert refused.status.status_code is StatusCode.UNSET
        assert list(refused.events) == []

    def test_a_user_named_in_middleware_is_refused_before_the_handler(
        self, service, open_shop, ask
    ):
        shop_service = service()
        shop = open_shop()
        entry_id = shop_service.trip("u-1", self.buy)
        answer = ask(f"{shop.url}/purchases/u-9", "POST", headers={"x-session": "u-1"})
        self.assert_rejected(answer, entry_id)
        assert shop.ran == []

    def test_a_user_named_in_the_handler_is_refused_the_rest(self, service, open_shop, ask):
        shop_service = service()
        shop = open_shop()
        entry_id = shop_service.trip("u-1", self.call("GET", "/named/USER"))
        self.assert_rejected(ask(f"{shop.url}/named/u-1"), entry_id)
        assert ask(f"{shop.url}/named/u-2").status == 200
        assert shop.ran == ["u-2"]

    def test_a_guard_that_refuses_is_answered_alike(self, service, open_shop, ask, until):
        shop_service = service(user_path_parameter="user")
        shop = open_shop()
        entry_id = shop_service.trip("u-1", "refresh")
        self.assert_rejected(ask(f"{shop.url}/guarded/u-1"), entry_id)
        assert ask(f"{shop.url}/guarded/u-2").status == 200
        until(lambda: len(shop_service.spans) == 4)
        name = self.call("GET", "/guarded/USER")
        servers = [span for span in shop_service.spans if span.name == name]
        (server,) = [span for span in servers if span.attributes[ENDUSER_ID] == "u-1"]
        assert server.attributes[REJECTED] == entry_id
        assert server.status.status_code is StatusCode.UNSET
        assert list(server.events) == []

    def test_a_downstream_rejection_travels_on(self, service, open_shop, ask, until):
        shop_service = service()
        shop = open_shop()
        answer = ask(f"{shop.url}/handed-on")
        self.assert_rejected(answer, "b-99")
        assert answer.headers["retry-after"] == "7"
        (span,) = until(lambda: list(shop_service.spans))
        assert span.attributes[REJECTED] == "b-99"
        assert span.status.status_code is StatusCode.UNSET

    def test_a_rejection_in_the_services_own_words_is_marked(self, service, open_shop, ask, until):
        shop_service = service()
        shop = open_shop()
        answer = ask(f"{shop.url}/own-words")
        assert (answer.status, answer.body) == (503, b"come back later")
        (span,) = until(lambda: list(shop_service.spans))
        assert span.attributes[REJECTED] == "b-98"
        assert span.status.status_code is StatusCode.UNSET

    def test_a_request_whose_time_is_over_is_not_started(self, service, open_shop, ask):
        service()
        shop = open_shop()
        late = ask(f"{shop.url}/purchases/u-1", "POST", headers={"heatshield-deadline": "0"})
        assert (late.status, late.headers["heatshield-deadline"]) == (504, "0")
        patient = {"heatshield-deadline": "60000"}
        assert ask(f"{shop.url}/purchases/u-2", "POST", headers=patient).status == 200
        assert shop.ran == ["u-2"]

    def test_nothing_is_refused_after_shutdown_and_nothing_is_left(self, service, open_shop, ask):
        import heatshield

        shop_service = service(user_path_parameter="user")
        shop = open_shop()
        shop_service.trip("u-1", self.buy)
        assert ask(f"{shop.url}/purchases/u-1", "POST").status == 503
        heatshield.shutdown()
        assert ask(f"{shop.url}/purchases/u-1", "POST").status == 200
        assert shop.ran == ["u-1"]

    def test_a_shop_that_was_open_before_is_covered(self, service, open_shop, ask, until):
        shop = open_shop()
        shop_service = service(user_path_parameter="user")
        entry_id = shop_service.trip("u-1", self.buy)
        self.assert_rejected(ask(f"{shop.url}/purchases/u-1", "POST"), entry_id)
        until(lambda: list(shop_service.spans))

    @staticmethod
    def assert_rejected(answer, entry_id):
        assert answer.status == 503
        assert answer.headers["heatshield-breaker"] == entry_id
        assert 1 <= int(answer.headers["retry-after"]) <= 30
