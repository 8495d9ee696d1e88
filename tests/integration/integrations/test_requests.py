"""requests, against a real server: one span an exchange, though it goes through urllib3."""

import threading

import pytest
import requests
import urllib3
from caller_behaviour import FIELDS, STRANGERS, CallerBehaviour, of_user
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from requests.adapters import HTTPAdapter

import heatshield
from heatshield.names import REJECTED


class Driver:
    def __init__(self, **options):
        self.session = requests.Session()
        self.session.mount("http://", HTTPAdapter(**options))

    def ask(self, url, method="GET", body=None, headers=None):
        response = self.session.request(method, url, data=body, headers=headers)
        return response.status_code, response.content

    def open(self, url):
        return Streamed(self.session.get(url, stream=True))

    def close(self):
        self.session.close()


class Streamed:
    def __init__(self, response):
        self.response = response

    def read(self):
        return self.response.content

    def close(self):
        self.response.close()


class TestRequests(CallerBehaviour):
    failures = requests.ConnectionError

    @pytest.fixture
    def make_client(self):
        made = []

        def make(**options):
            made.append(Driver(**options))
            return made[-1]

        yield make
        for client in made:
            client.close()

    @pytest.fixture
    def client(self, make_client):
        return make_client()

    def test_a_retry_is_within_the_span_and_counted(self, service, make_client, peer):
        shop = service()
        retries = urllib3.Retry(5, status_forcelist=[503], backoff_factor=0)
        client = make_client(max_retries=retries)
        assert client.ask(f"{peer.url}/flaky")[0] == 200
        (span,) = shop.spans
        assert span.attributes["http.request.resend_count"] == 2
        assert len(peer.asked) == 3

    def test_a_rejection_is_not_retried(self, service, make_client, peer):
        shop = service()
        retries = urllib3.Retry(5, status_forcelist=[503], backoff_factor=0)
        client = make_client(max_retries=retries)
        assert client.ask(f"{peer.url}/rejected")[0] == 503
        assert len(peer.asked) == 1
        with pytest.raises(requests.exceptions.RetryError):
            client.ask(f"{peer.url}/unavailable")
        assert len(peer.asked) == 7
        assert REJECTED in shop.spans[0].attributes

    def test_a_request_can_be_sent_again_for_somebody_else(self, service, client, peer):
        service()
        request = client.session.prepare_request(requests.Request("GET", f"{peer.url}/ok"))
        own = dict(request.headers)
        of_user("u-1", lambda: client.session.send(request))
        client.session.send(request)
        assert ["baggage" in headers for _, _, headers in peer.asked] == [True, False]
        assert dict(request.headers) == own

    def test_a_request_can_be_sent_by_several_threads_at_once(self, service, make_client, peer):
        """Each for its user; and it is the same request afterwards, with the same headers."""
        service()
        request = make_client().session.prepare_request(
            requests.Request("GET", f"{peer.url}/chunked")
        )
        headers, own = request.headers, dict(request.headers)
        together = threading.Barrier(4)

        def send(user):
            client = make_client()
            for _ in range(5):
                together.wait(10)
                response = of_user(user, lambda: client.session.send(request))
                assert response.request is request

        threads = [threading.Thread(target=send, args=(f"u-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = sorted(headers["baggage"] for _, _, headers in peer.asked)
        assert told == sorted(f"enduser.id=u-{n}" for n in range(4) for _ in range(5))
        assert request.headers is headers
        assert dict(request.headers) == own

    @pytest.mark.parametrize("replaces", [False, True])
    @pytest.mark.parametrize("settings", [{}, {"deadlines": True}])
    def test_headers_that_an_adapter_adds_survive(self, service, client, peer, settings, replaces):
        class Signing(HTTPAdapter):
            def add_headers(self, request, **_):
                if replaces:
                    request.headers = request.headers.copy()
                request.headers["X-Signed"] = "1"

        service(**settings)
        client.session.mount("http://", Signing())
        request = client.session.prepare_request(requests.Request("GET", f"{peer.url}/ok"))
        response = of_user("u-1", lambda: client.session.send(request))
        headers = peer.asked[0][2]
        assert (headers["x-signed"], headers["baggage"]) == ("1", "enduser.id=u-1")
        assert response.request is request
        assert request.headers["X-Signed"] == "1"
        assert {name.lower() for name in request.headers}.isdisjoint(headers.keys() & FIELDS)

    def test_another_call_that_an_adapter_makes_on_the_way_is_told_nothing(
        self, service, client, peer
    ):
        class Fetching(HTTPAdapter):
            def add_headers(self, *_, **__):
                urllib3.PoolManager().request("GET", f"{peer.url}/ok?token")

        service()
        client.session.mount("http://", Fetching())
        of_user("u-1", lambda: client.ask(f"{peer.url}/missing"))
        told = {path: headers.get("baggage") for _, path, headers in peer.asked}
        assert told == {"/ok": None, "/missing": "enduser.id=u-1"}

    @pytest.mark.parametrize("disabled", ["urllib3", "requests"])
    def test_either_is_enough(self, service, client, peer, disabled):
        shop = service(disabled=(disabled,))
        assert client.ask(f"{peer.url}/chunked") == (200, b"x" * 3_000)
        (span,) = shop.spans
        assert span.attributes["http.response.body.size"] == 3_000

    def test_both_can_be_left_out(self, service, client, peer):
        shop = service(disabled=("urllib3", "requests"))
        client.ask(f"{peer.url}/ok")
        assert shop.spans == []
        assert "traceparent" not in peer.asked[0][2]

    @pytest.mark.parametrize("how", ["before", "after"])
    def test_beside_opentelemetrys_own_instrumentation_nothing_doubles(
        self, service, client, peer, how
    ):
        instrumentors = [RequestsInstrumentor(), URLLib3Instrumentor()]
        if how == "after":
            shop = service()
        for one in instrumentors:
            one.instrument(skip_dep_check=True)
        if how == "before":
            shop = service()
        try:
            client.ask(f"{peer.url}/rejected", headers=STRANGERS)
        finally:
            heatshield.shutdown()
            for one in instrumentors:
                one.uninstrument()
        (span,) = shop.spans
        assert f"{span.span_id:016x}" in peer.asked[0][2]["traceparent"]
        assert peer.asked[0][2].keys().isdisjoint({"baggage", "tracestate", "b3", "x-b3-flags"})
        assert span.attributes[REJECTED] == "b-9"

    def test_removed_it_leaves_requests_as_it_was(self, service):
        owners = (HTTPAdapter, urllib3.HTTPResponse, urllib3.HTTPConnectionPool, urllib3.Retry)
        before = [dict(vars(owner)) for owner in owners]
        service()
        assert [dict(vars(owner)) for owner in owners] != before
        heatshield.shutdown()
        assert [dict(vars(owner)) for owner in owners] == before
