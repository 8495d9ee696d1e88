"""aiohttp's client, against a real server."""

import asyncio
import gc
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from caller_behaviour import FIELDS, STRANGERS, CallerBehaviour, of_user
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

import heatshield
from heatshield.names import REJECTED


class Driver:
    """Its calls are made in an event loop of the thread that asks."""

    def __init__(self, **options):
        self.loop = asyncio.new_event_loop()
        self.session = self.loop.run_until_complete(self._open(options))

    async def _open(self, options):
        return aiohttp.ClientSession(**options)

    def ask(self, url, method="GET", body=None, headers=None):
        return self.loop.run_until_complete(self._ask(url, method, body, headers))

    async def _ask(self, url, method, body, headers):
        async with self.session.request(method, url, data=body, headers=headers) as response:
            return response.status, await response.read()

    def open(self, url):
        response = self.loop.run_until_complete(self.session.get(url).__aenter__())
        return SimpleNamespace(
            read=lambda: self.loop.run_until_complete(response.read()), close=response.close
        )

    def close(self):
        self.loop.run_until_complete(self.session.close())
        self.loop.close()


class TestAiohttpClient(CallerBehaviour):
    failures = aiohttp.ServerDisconnectedError
    hops = 1

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

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_a_call_whose_answer_nobody_reads_is_ended_by_the_next(
        self, service, make_client, peer
    ):
        """Once its connection, which knows it, is gone."""
        shop = service()
        first = make_client()
        first.open(f"{peer.url}/large")
        first.loop.run_until_complete(first.session.close())
        first.loop.run_until_complete(asyncio.sleep(0.01))
        gc.collect()
        make_client().ask(f"{peer.url}/ok")
        addresses = [span.attributes["url.full"] for span in shop.spans]
        assert addresses == [f"{peer.url}/large", f"{peer.url}/ok"]

    def test_redirects_are_within_the_span_and_counted(self, service, client, peer):
        shop = service()
        client.ask(f"{peer.url}/moved")
        (span,) = shop.spans
        assert span.attributes["http.request.resend_count"] == 1
        assert span.attributes["http.response.status_code"] == 200

    def test_a_rejection_that_is_raised_is_no_error_either(self, service, make_client, peer):
        shop = service()
        client = make_client(raise_for_status=True)
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            client.ask(f"{peer.url}/rejected")
        assert heatshield.is_rejection(caught.value)
        (span,) = shop.spans
        assert span.attributes[REJECTED] == "b-9"

    def test_a_sessions_own_address_and_headers_count(self, service, make_client, peer):
        shop = service()
        client = make_client(base_url=f"{peer.url}/", headers={"x-session": "1"})
        client.ask("ok", headers={"x-own": "1"})
        assert shop.spans[0].attributes["url.full"] == f"{peer.url}/ok"
        headers = peer.asked[0][2]
        assert (headers["x-session"], headers["x-own"]) == ("1", "1")

    @pytest.mark.parametrize("to", [(), ("*.internal",)])
    def test_a_sessions_own_headers_hand_on_nothing_of_a_strangers(
        self, service, make_client, peer, to
    ):
        service(propagate_to=to)
        client = make_client(headers=STRANGERS)
        of_user("u-1", lambda: client.ask(f"{peer.url}/ok"))
        headers = peer.asked[0][2]
        assert headers.get("baggage") == (None if to else "enduser.id=u-1")
        assert headers.keys().isdisjoint(FIELDS if to else {"tracestate", "b3"})

    def test_a_proxy_that_is_asked_for_a_tunnel_learns_nothing(self, service, client):
        service()
        heads = []

        async def refuse(reader, writer):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        async def ask():
            async with await asyncio.start_server(refuse, "127.0.0.1") as server:
                port = server.sockets[0].getsockname()[1]
                await client.session.get("https://shop.test/", proxy=f"http://127.0.0.1:{port}")

        with pytest.raises(aiohttp.ClientHttpProxyError):
            of_user("u-1", lambda: client.loop.run_until_complete(ask()))
        (head,) = heads
        assert head.startswith(b"CONNECT shop.test:443 ")
        assert not any(field.encode() in head.lower() for field in (*FIELDS, "u-1"))

    def test_a_session_that_was_made_before_is_covered(self, service, client, peer):
        shop = service()
        client.ask(f"{peer.url}/ok")
        assert len(shop.spans) == 1

    @pytest.mark.parametrize("how", ["before", "after"])
    def test_beside_opentelemetrys_own_instrumentation_nothing_doubles(
        self, service, make_client, peer, how
    ):
        instrumentor = AioHttpClientInstrumentor()
        if how == "after":
            shop = service()
        instrumentor.instrument(skip_dep_check=True)
        if how == "before":
            shop = service()
        try:
            make_client().ask(f"{peer.url}/ok", headers=STRANGERS)
        finally:
            heatshield.shutdown()
            instrumentor.uninstrument()
        (span,) = shop.spans
        assert f"{span.span_id:016x}" in peer.asked[0][2]["traceparent"]
        assert peer.asked[0][2].keys().isdisjoint({"baggage", "tracestate", "b3", "x-b3-flags"})

    def test_removed_it_leaves_aiohttp_as_it_was(self, service):
        owners = (aiohttp.ClientSession, ClientRequest, ClientResponse)
        before = [dict(vars(owner)) for owner in owners]
        service()
        assert [dict(vars(owner)) for owner in owners] != before
        heatshield.shutdown()
        assert [dict(vars(owner)) for owner in owners] == before
