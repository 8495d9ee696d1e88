"""A cut user's request does not travel where the tripped call is known to live; all others do.

The service that is called is a plain server, which refuses as an instrumented one does; what has
reached it is counted there.
"""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler

import aiohttp
import httpx
import pytest
import requests
import urllib3
from caller_behaviour import Server, of_user
from opentelemetry.trace import SpanKind

import heatshield
from heatshield.breakers.caller_gate import LEARNED_S
from heatshield.contract import (
    BreakerEntry,
    BreakerMode,
    EntryScope,
    PlatformMode,
    Snapshot,
    StateVersion,
)
from heatshield.names import REJECTED

CALL = "GET /users/{id}/stickers"
CUT, OTHER = "u-cut", "u-other"
REFUSED = {"heatshield-breaker": "b-1", "heatshield-breaker-at": "call", "retry-after": "7"}
BODY = json.dumps({"detail": "refused by breaker b-1; try again in 7 s"}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        is_cut = f"enduser.id={CUT}" in self.headers.get("baggage", "")
        refuses = is_cut and "/users/" in self.path and server.refuses
        self.send_response(503 if refuses else 200)
        body = BODY if refuses else b"{}"
        marks = server.marks if refuses else {}
        for name, value in {**marks, "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the standard library's name

    def log_message(self, *args):
        pass


@pytest.fixture
def third():
    """A service that refuses the cut user what is below ``/users/``; ``asked`` has reached it."""
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.marks, server.refuses = [], REFUSED, True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def caller(service):
    """This process, instrumented; ``hold(entries)`` are granted to it."""
    made = service()
    versions = iter(range(1, 100))

    def hold(*entries, mode=PlatformMode.PROTECT):
        at = StateVersion(1, next(versions))
        made.runtime.table.apply(Snapshot(at, mode, entries), made.clock.monotonic())

    made.hold = hold
    hold(entry())
    return made


def entry(**changed):
    fields = {"id": "b-1", "user": CUT, "service": "third", "call": CALL, **changed}
    return BreakerEntry(**fields)


def by_httpx(url, method="GET"):
    answer = httpx.request(method, url)
    assert answer.elapsed is not None
    return answer.status_code, answer.headers, answer.content, answer.raise_for_status


def by_httpx_async(url, method="GET"):
    async def ask():
        async with httpx.AsyncClient() as client:
            answer = await client.request(method, url)
        return answer.status_code, answer.headers, answer.content, answer.raise_for_status

    return asyncio.run(ask())


def by_requests(url, method="GET"):
    answer = requests.request(method, url, timeout=5)
    return answer.status_code, answer.headers, answer.content, answer.raise_for_status


def by_requests_streaming(url, method="GET"):
    with requests.request(method, url, timeout=5, stream=True) as answer:
        body = b"".join(answer.iter_content(7))
        return answer.status_code, answer.headers, body, answer.raise_for_status


def by_urllib3(url, method="GET"):
    answer = urllib3.PoolManager().request(method, url)
    return answer.status, answer.headers, answer.data, None


def by_urllib3_unread(url, method="GET"):
    answer = urllib3.PoolManager().request(method, url, preload_content=False)
    body = answer.read(5) + answer.read()
    answer.release_conn()
    return answer.status, answer.headers, body, None


def by_aiohttp(url, method="GET"):
    async def ask():
        async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
            body = await answer.read()
            assert await answer.json() is not None
            return answer.status, answer.headers, body, answer.raise_for_status

    return asyncio.run(ask())


CLIENTS = [
    by_httpx, by_httpx_async, by_requests, by_requests_streaming, by_urllib3, by_urllib3_unread,
    by_aiohttp,
]  # fmt: skip


@pytest.fixture(params=CLIENTS)
def ask(request):
    return request.param


def refused(ask, url, user=CUT, method="GET"):
    """Whether a user is refused; the answer is the same wherever it was made."""
    status, headers, body, check = of_user(user, lambda: ask(url, method))
    if status == 503:
        assert headers["heatshield-breaker"] == "b-1"
        assert int(headers["retry-after"]) >= 1
        assert headers["content-type"] == "application/json"
        assert "refused by breaker b-1" in json.loads(body)["detail"]
        assert int(headers["content-length"]) == len(body)
        if check is not None:
            with pytest.raises(Exception, match="503") as raised:
                check()
            assert heatshield.is_rejection(raised.value)
    return status == 503


def test_the_second_request_to_a_tripped_call_does_not_travel(caller, third, ask):
    before = heatshield.status()["errors"]
    for number in range(5):
        assert refused(ask, f"{third.url}/users/{number}/stickers?page={number}")
    assert third.asked == ["/users/0/stickers?page=0"]
    spans = [span for span in caller.spans if span.kind is SpanKind.CLIENT]
    assert [span.attributes[REJECTED] for span in spans] == ["b-1"] * 5
    assert [span.attributes["http.response.status_code"] for span in spans] == [503] * 5
    assert all(span.end_time for span in spans)
    (row,) = caller.runtime.table.drain_rejections()
    assert (row.id, row.count, row.service, row.call) == ("b-1", 4, "third", CALL)
    assert heatshield.status()["errors"] == before


def test_whatever_no_entry_names_travels(caller, third, ask):
    """Other users, nobody, other calls, methods and hosts of the same service."""
    url = f"{third.url}/users/7/stickers"
    assert refused(ask, url)
    assert refused(ask, url)
    assert len(third.asked) == 1
    assert not refused(ask, url, OTHER)
    assert ask(url)[0] == 200  # no user acts
    others = [f"{third.url}/users/7", f"{third.url}/users/7/stickers/1", f"{third.url}/"]
    for other in others:
        refused(ask, other)
    refused(ask, url, method="POST")
    refused(ask, url.replace("127.0.0.1", "localhost"))
    assert len(third.asked) == 8


def test_another_word_in_the_path_may_be_another_route(caller, third, ask):
    """``/users/me`` is no ``/users/{id}`` where a service has both."""
    assert refused(ask, f"{third.url}/users/7/stickers")
    assert refused(ask, f"{third.url}/users/me/stickers")  # by the service, which was asked
    assert refused(ask, f"{third.url}/users/8/stickers")
    assert third.asked == ["/users/7/stickers", "/users/me/stickers"]


@pytest.mark.parametrize(
    "marks",
    [
        {"heatshield-breaker": "b-1", "retry-after": "7"},
        {**REFUSED, "heatshield-breaker-at": "guard"},
    ],
)
def test_a_refusal_from_further_in_teaches_nothing(caller, third, ask, marks):
    """By a guard, or by another service: the entry does not name what was asked for."""
    third.marks = marks
    url = f"{third.url}/users/7/stickers"
    assert all(refused(ask, url) for _ in range(3))
    assert len(third.asked) == 3


@pytest.mark.parametrize(
    "held",
    [
        (),
        (entry(id="b-2"),),
        (entry(user=OTHER),),
        (entry(call="GET /gate"),),
        (entry(tenant="another"),),
        (entry(mode=BreakerMode.TRICKLE, rate_per_s=1.0),),
        (entry(mode=BreakerMode.FLAG),),
        (entry(mode=BreakerMode.PACE, budget=0.1),),
        (entry(prober="i-1", probe_per_s=1.0),),
        (entry(scope=EntryScope.USER_SERVICE, call=""),),
    ],
    ids=[
        "none",
        "another id",
        "another user",
        "another call",
        "tenant",
        "trickle",
        "flag",
        "pace",
        "probed",
        "all calls",
    ],
)
def test_a_refusal_that_this_process_has_no_grant_for_teaches_nothing(caller, third, ask, held):
    caller.hold(*held)
    url = f"{third.url}/users/7/stickers"
    assert all(refused(ask, url) for _ in range(3))
    assert len(third.asked) == 3


def _lapse(caller):
    caller.clock.advance(30.0)


def _forget(caller):
    caller.clock.advance(LEARNED_S)


ENDS = {
    "cleared": lambda caller: caller.hold(),
    "trickle": lambda caller: caller.hold(entry(mode=BreakerMode.TRICKLE, rate_per_s=1.0)),
    "flag": lambda caller: caller.hold(entry(mode=BreakerMode.FLAG)),
    "probed": lambda caller: caller.hold(entry(prober="i-1", probe_per_s=1.0)),
    "shadow": lambda caller: caller.hold(entry(), mode=PlatformMode.SHADOW),
    "kill switch": lambda _: heatshield.enforce(False),
    "lease over": _lapse,
    "learned long ago": _forget,
}


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_with_what_it_rests_on(caller, third, ask, end):
    url = f"{third.url}/users/7/stickers"
    assert refused(ask, url)
    assert refused(ask, url)
    assert len(third.asked) == 1
    ENDS[end](caller)
    third.refuses = False
    assert not refused(ask, url)
    assert not refused(ask, url)
    assert len(third.asked) == 3


def test_after_a_while_the_service_is_asked_again(caller, third, ask):
    url = f"{third.url}/users/7/stickers"
    for _ in range(3):
        assert refused(ask, url)
        assert refused(ask, url)
        caller.clock.advance(LEARNED_S)
    assert len(third.asked) == 3


def test_shadow_counts_nothing_at_the_caller(caller, third, ask):
    """The service counts what it would have refused; twice would be too often."""
    url = f"{third.url}/users/7/stickers"
    refused(ask, url)
    caller.hold(entry(), mode=PlatformMode.SHADOW)
    refused(ask, url)
    assert caller.runtime.table.would_have_rejected() == {}


def test_retries_of_urllib3_and_requests_are_not_made(caller, third):
    retries = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    url = f"{third.url}/users/7/stickers"
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        for _ in range(3):
            answer = of_user(CUT, lambda: session.get(url, timeout=5))
            assert answer.status_code == 503
    pools = urllib3.PoolManager(retries=retries)
    assert of_user(CUT, lambda: pools.request("GET", url)).status == 503
    assert len(third.asked) == 1
    spans = [span for span in caller.spans if span.kind is SpanKind.CLIENT]
    assert len(spans) == 4


@pytest.mark.parametrize("where", ["session", "request"])
def test_aiohttp_raises_for_status_where_it_was_asked_to(caller, third, where):
    seen = []

    async def look(answer):
        seen.append(answer.status)

    async def main():
        url = f"{third.url}/users/7/stickers"
        of_session = {"raise_for_status": True} if where == "session" else {}
        of_request = {"raise_for_status": True} if where == "request" else {}
        async with aiohttp.ClientSession(**of_session) as session:
            for _ in range(3):
                with pytest.raises(aiohttp.ClientResponseError) as raised:
                    await session.get(url, **of_request)
                assert raised.value.status == 503
                assert raised.value.headers["heatshield-breaker"] == "b-1"
                assert str(raised.value.request_info.real_url) == url
            await session.get(url, raise_for_status=look)

    of_user(CUT, lambda: asyncio.run(main()))
    assert len(third.asked) == 1
    assert seen == [503]


def test_a_client_over_a_socket_file_is_another_place(caller, third, tmp_path):
    url = f"{third.url}/users/7/stickers"
    assert refused(by_httpx, url)
    transport = httpx.HTTPTransport(uds=str(tmp_path / "nobody"))
    with httpx.Client(transport=transport) as client, pytest.raises(httpx.ConnectError):
        of_user(CUT, lambda: client.get(url))


def test_a_name_that_is_sent_to_the_same_address_is_another_place(caller, third):
    """As behind an ingress, which tells services apart by it."""
    url = f"{third.url}/users/7/stickers"
    assert refused(by_httpx, url)
    for _ in range(2):
        of_user(CUT, lambda: httpx.get(url, headers={"host": "a.internal"}))
        of_user(CUT, lambda: requests.get(url, headers={"host": "b.internal"}, timeout=5))
    assert len(third.asked) == 3


def test_where_no_response_can_be_made_the_request_travels(caller, third, ask, monkeypatch):
    def broken(*args, **kwargs):
        raise TypeError("another version of the library")

    for name in ("httpx._refused", "urllib3_refusals._response", "aiohttp_refusals._response"):
        module, _, function = name.partition(".")
        monkeypatch.setattr(f"heatshield.integrations.clients.{module}.{function}", broken)
    counted = heatshield.status()["errors"].get("caller gate", 0)
    url = f"{third.url}/users/7/stickers"
    assert refused(ask, url)
    assert refused(ask, url)
    assert len(third.asked) == 2
    # more than once where other libraries' patches hold on what earlier tests have put there
    assert heatshield.status()["errors"]["caller gate"] > counted
