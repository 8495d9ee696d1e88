"""urllib3, against a real server."""

import pytest
import urllib3
from caller_behaviour import STRANGERS, CallerBehaviour
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor

import heatshield
from heatshield.names import REJECTED


class Driver:
    def __init__(self, **options):
        self.pools = urllib3.PoolManager(**options)

    def ask(self, url, method="GET", body=None, headers=None):
        response = self.pools.request(method, url, body=body, headers=headers)
        return response.status, response.data

    def open(self, url):
        return self.pools.request("GET", url, preload_content=False)

    def close(self):
        self.pools.clear()


class TestUrllib3(CallerBehaviour):
    failures = urllib3.exceptions.ProtocolError

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

    def test_a_retry_is_within_the_span_and_counted(self, service, client, peer):
        shop = service()
        retries = urllib3.Retry(5, status_forcelist=[503], backoff_factor=0)
        answer = client.pools.request("GET", f"{peer.url}/flaky", retries=retries)
        assert answer.status == 200
        (span,) = shop.spans
        assert span.attributes["http.request.resend_count"] == 2
        assert len(peer.asked) == 3

    def test_a_rejection_is_not_retried_after_as_long_as_it_says(self, service, client, peer):
        """Which urllib3 would do by default: it says Retry-After."""
        service()
        answer = client.pools.request("GET", f"{peer.url}/rejected")
        assert (answer.status, len(peer.asked)) == (503, 1)

    def test_whether_the_next_is_retried_is_its_own_business(self, service, client, peer):
        service()
        retries = urllib3.Retry(2, status_forcelist=[404, 503], backoff_factor=0)
        client.pools.request("GET", f"{peer.url}/rejected", retries=retries)
        assert retries.is_retry("GET", 503)
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            client.pools.request("GET", f"{peer.url}/missing", retries=retries)
        assert len(peer.asked) == 1 + 3

    def test_a_pools_own_headers_go_out_too(self, service, peer):
        service()
        with urllib3.HTTPConnectionPool("127.0.0.1", peer.port, headers={"x-pool": "1"}) as pool:
            assert pool.urlopen("GET", "/ok").status == 200
            assert pool.headers == {"x-pool": "1"}
        headers = peer.asked[0][2]
        assert headers["x-pool"] == "1"
        assert "traceparent" in headers

    @pytest.mark.parametrize("how", ["before", "after"])
    def test_beside_opentelemetrys_own_instrumentation_nothing_doubles(
        self, service, client, peer, how
    ):
        instrumentor = URLLib3Instrumentor()
        if how == "after":
            shop = service()
        instrumentor.instrument(skip_dep_check=True)
        if how == "before":
            shop = service()
        try:
            client.ask(f"{peer.url}/rejected", headers=STRANGERS)
        finally:
            heatshield.shutdown()
            instrumentor.uninstrument()
        (span,) = shop.spans
        assert f"{span.span_id:016x}" in peer.asked[0][2]["traceparent"]
        assert peer.asked[0][2].keys().isdisjoint({"baggage", "tracestate", "b3", "x-b3-flags"})
        if how == "after":
            assert span.attributes[REJECTED] == "b-9"

    def test_removed_it_leaves_urllib3_as_it_was(self, service):
        owners = (urllib3.HTTPResponse, urllib3.HTTPConnectionPool, urllib3.Retry)
        before = [dict(vars(owner)) for owner in owners]
        service()
        assert [dict(vars(owner)) for owner in owners] != before
        heatshield.shutdown()
        assert [dict(vars(owner)) for owner in owners] == before
