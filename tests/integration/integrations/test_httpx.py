"""httpx, sync and async, against a real server."""

import asyncio
import pickle
from types import SimpleNamespace

import httpx
import pytest
from caller_behaviour import STRANGERS, CallerBehaviour, of_user
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

import heatshield
from heatshield.names import REJECTED


class Sync:
    def __init__(self, **options):
        self.client = httpx.Client(follow_redirects=True, **options)

    def ask(self, url, method="GET", body=None, headers=None):
        response = self.client.request(method, url, content=body, headers=headers)
        return response.status_code, response.content

    def open(self, url):
        return self.client.send(self.client.build_request("GET", url), stream=True)

    def close(self):
        self.client.close()


class Async:
    """Its calls are made in an event loop of the thread that asks."""

    def __init__(self, **options):
        self.loop = asyncio.new_event_loop()
        self.client = httpx.AsyncClient(follow_redirects=True, **options)

    def ask(self, url, method="GET", body=None, headers=None):
        return self.loop.run_until_complete(self._ask(url, method, body, headers))

    async def _ask(self, url, method, body, headers):
        response = await self.client.request(method, url, content=body, headers=headers)
        return response.status_code, response.content

    def open(self, url):
        sending = self.client.send(self.client.build_request("GET", url), stream=True)
        response = self.loop.run_until_complete(sending)
        return SimpleNamespace(
            read=lambda: self.loop.run_until_complete(response.aread()),
            close=lambda: self.loop.run_until_complete(response.aclose()),
        )

    def close(self):
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


class HttpxBehaviour(CallerBehaviour):
    failures = httpx.RemoteProtocolError
    kind = None

    @pytest.fixture
    def make_client(self):
        made = []

        def make(**options):
            made.append(self.kind(**options))
            return made[-1]

        yield make
        for client in made:
            client.close()

    @pytest.fixture
    def client(self, make_client):
        return make_client()

    @pytest.mark.parametrize("how", ["before", "after", "one client"])
    def test_beside_opentelemetrys_own_instrumentation_nothing_doubles(
        self, service, make_client, peer, how
    ):
        instrumentor = HTTPXClientInstrumentor()
        if how == "before":
            instrumentor.instrument(skip_dep_check=True)
        shop = service()
        if how == "after":
            instrumentor.instrument(skip_dep_check=True)
        client = make_client()
        if how == "one client":
            instrumentor.instrument_client(client.client)
        client.ask(f"{peer.url}/rejected", headers=STRANGERS)
        heatshield.shutdown()
        if how != "one client":
            instrumentor.uninstrument()
        (span,) = shop.spans
        assert f"{span.span_id:016x}" in peer.asked[0][2]["traceparent"]
        assert peer.asked[0][2].keys().isdisjoint({"baggage", "tracestate", "b3", "x-b3-flags"})
        if how != "before":  # then theirs has ended its span before ours can mark it
            assert span.attributes[REJECTED] == "b-9"


class TestHttpx(HttpxBehaviour):
    kind = Sync

    def test_a_request_can_be_sent_again_for_somebody_else(self, service, client, peer):
        service()
        request = client.client.build_request("GET", f"{peer.url}/ok", headers={"x-own": "1"})
        own = list(request.headers.raw)
        of_user("u-1", lambda: client.client.send(request))
        client.client.send(request)
        assert ["baggage" in headers for _, _, headers in peer.asked] == [True, False]
        assert request.headers.raw == own

    def test_headers_that_a_transport_adds_survive(self, service, make_client, peer):
        class Signing(httpx.HTTPTransport):
            def handle_request(self, request):
                request.headers["x-signed"] = "1"
                return super().handle_request(request)

        service()
        client = make_client(transport=Signing())
        request = client.client.build_request("GET", f"{peer.url}/ok")
        response = of_user("u-1", lambda: client.client.send(request))
        headers = peer.asked[0][2]
        assert (headers["x-signed"], headers["baggage"]) == ("1", "enduser.id=u-1")
        assert response.request is request
        assert request.headers["x-signed"] == "1"
        assert "baggage" not in request.headers

    def test_a_response_that_was_read_can_be_pickled(self, service, client, peer):
        service()
        response = client.client.get(f"{peer.url}/ok")
        assert pickle.loads(pickle.dumps(response)).text == "ok"  # noqa: S301

    def test_mocked_transports_make_no_spans(self, service):
        shop = service()
        transport = httpx.MockTransport(lambda _: httpx.Response(200, text="ok"))
        with httpx.Client(transport=transport) as client:
            assert client.get("http://shop/").text == "ok"
        assert shop.spans == []

    def test_removed_it_leaves_httpx_as_it_was(self, service):
        owners = (httpx.HTTPTransport, httpx.AsyncHTTPTransport, httpx.Response)
        before = [dict(vars(owner)) for owner in owners]
        service()
        assert [dict(vars(owner)) for owner in owners] != before
        heatshield.shutdown()
        assert [dict(vars(owner)) for owner in owners] == before


class TestHttpxAsync(HttpxBehaviour):
    kind = Async

    def test_a_request_can_be_sent_by_several_tasks_at_once(self, service, client, peer):
        """Each for its user; and it is the same request afterwards, with the same headers."""
        service()
        request = client.client.build_request("GET", f"{peer.url}/chunked")
        headers, own = request.headers, list(request.headers.raw)

        async def send(user):
            with heatshield.user(user):
                response = await client.client.send(request)
            assert response.request is request

        async def send_all():
            await asyncio.gather(*(send(f"u-{n % 4}") for n in range(20)))

        client.loop.run_until_complete(send_all())
        told = sorted(headers["baggage"] for _, _, headers in peer.asked)
        assert told == sorted(f"enduser.id=u-{n % 4}" for n in range(20))
        assert request.headers is headers
        assert headers.raw == own

    def test_a_call_that_is_cancelled_ends(self, service, client, peer):
        shop = service()

        async def give_up():
            async with asyncio.timeout(0.05):
                await client.client.get(f"{peer.url}/never")

        with pytest.raises(TimeoutError):
            client.loop.run_until_complete(give_up())
        (span,) = shop.spans
        assert span.attributes["error.type"] == "CancelledError"
