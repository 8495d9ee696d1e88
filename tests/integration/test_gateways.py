"""Debian's nginx and haproxy, as docs/gateways.md configures them, before a service without
heatshield: a cut user's request never reaches it.
"""

import itertools
import socket
import time
from contextlib import closing, contextmanager

import httpx
import pytest
import yaml
from gateway_processes import (
    STARTS_S,
    TOKEN,
    block,
    haproxy,
    lenient_haproxy,
    nginx,
    plain_service,
)

from collector_process import collector_process
from heatshield.cli.local_token import local_token
from heatshield_stickershop.processes import free_port

CALL = "POST /users/{id}/stickers"
PATH = "/users/7/stickers"


@pytest.fixture
def service():
    with plain_service() as served:
        yield served


@pytest.fixture(scope="module", params=["", TOKEN], ids=["loopback", "token"])
def collector(request, tmp_path_factory):
    """A real one; with a token, as where gateways come from other machines, and without."""
    with requiring(request.param, tmp_path_factory.mktemp("gateways") / "data") as started:
        yield started


@contextmanager
def requiring(token, data):
    """A collector in protect mode that requires a token, or none."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HEATSHIELD_COLLECTOR_TOKEN", token)
        with collector_process(data, "--mode", "protect") as started:
            yield started


@pytest.fixture
def breakers(collector):
    """Trips and clears as a person does."""
    admin = {"Authorization": f"Bearer {local_token(collector.url)}"}
    with httpx.Client(base_url=collector.url, headers=admin) as client:
        yield client
        for entry in client.get("/v1/breakers").json()["entries"]:
            client.delete(f"/v1/breakers/{entry['id']}")


_NUMBERS = itertools.count()


@pytest.fixture
def hot():
    """A user; another each time, as a key may not change its state too often."""
    return f"hot-{next(_NUMBERS)}"


def trip(breakers, user, call=CALL, **more):
    asked = {"user": user, "service": "shop", "call": call} | more
    answer = breakers.post("/v1/breakers", json=asked)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


GATEWAYS = [pytest.param(nginx, id="nginx"), pytest.param(haproxy, id="haproxy")]


@pytest.fixture(params=GATEWAYS)
def gateway(request, tmp_path, service, collector):
    """Address of a gateway before the service."""
    with request.param(tmp_path, service, collector.port) as url:
        yield url


def ask(gateway, user="other", method="POST", path=PATH, **headers):
    named = {"x-user-id": user} if user else {}
    body = b"a body" if method == "POST" else None
    return httpx.request(method, gateway + path, headers=named | headers, content=body, timeout=20)


def test_a_cut_user_s_request_never_reaches_the_service_and_another_s_does(
    gateway, service, breakers, hot
):
    entry = trip(breakers, hot)
    refused = ask(gateway, hot)
    assert refused.status_code == 503
    assert refused.headers["heatshield-breaker"] == entry
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert service.seen == []

    for user in ("other", ""):
        answer = ask(gateway, user)
        assert (answer.status_code, answer.text) == (200, "ok")
        assert "heatshield-breaker" not in answer.headers
    assert [one[2] for one in service.seen] == ["other", None]
    assert {(one[0], one[1], one[3]) for one in service.seen} == {("POST", PATH, b"a body")}


def test_a_paced_user_gets_a_429_for_what_is_beyond_the_budget(gateway, service, breakers, hot):
    entry = trip(breakers, hot, mode="pace", budget=0.001)
    answers = [ask(gateway, hot) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 429, 429, 429]
    assert len(service.seen) == 1
    assert answers[1].headers["heatshield-breaker"] == entry
    assert int(answers[1].headers["retry-after"]) >= 1


def test_question_after_question_is_answered(gateway, service, breakers, hot):
    """What one question leaves on its connection, the next one would get."""
    trip(breakers, hot)
    for _ in range(10):
        assert ask(gateway, "other").status_code == 200
        assert ask(gateway, hot).status_code == 503
        assert ask(gateway, hot, "GET").status_code == 200
    assert len(service.seen) == 20


def test_only_the_call_is_cut_whatever_its_query_and_encoding(gateway, service, breakers, hot):
    trip(breakers, hot)
    for path in (PATH + "?user=other&service=x", "/users/%37/st%69ckers", "/users/8/stickers"):
        assert ask(gateway, hot, path=path).status_code == 503
    assert service.seen == []
    for method, path in (("GET", PATH), ("POST", "/users/7"), ("POST", PATH + "/1")):
        assert ask(gateway, hot, method, path).status_code == 200
    assert len(service.seen) == 3


def test_a_user_s_own_headers_lead_past_no_breaker(gateway, service, breakers, hot):
    trip(breakers, hot)
    for headers in (
        {"x-forwarded-uri": "/", "x-forwarded-method": "GET", "x-forwarded-host": "evil.example"},
        {"heatshield-check-call": "GET /", "heatshield-check-service": "other"},
        {"authorization": "Bearer x", "origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site", "host": "shop.example"},
    ):
        assert ask(gateway, hot, **headers).status_code == 503
    assert service.seen == []


def test_a_cleared_user_comes_through_at_once(gateway, service, breakers, hot):
    entry = trip(breakers, hot)
    assert ask(gateway, hot).status_code == 503
    breakers.delete(f"/v1/breakers/{entry}")
    assert ask(gateway, hot).status_code == 200
    assert len(service.seen) == 1


def test_the_service_s_own_answers_pass_as_they_are(gateway, service):
    for status in (401, 403, 404, 429, 500, 503):
        service.status = status
        answer = ask(gateway)
        assert (answer.status_code, answer.text) == (status, "ok")
        assert "heatshield-breaker" not in answer.headers


@pytest.mark.parametrize("start", GATEWAYS)
def test_without_a_collector_requests_go_on_soon(start, tmp_path, service):
    with start(tmp_path, service, free_port()) as gateway:
        began = time.monotonic()
        assert ask(gateway).status_code == 200
        assert time.monotonic() - began < 1.0
    assert [one[3] for one in service.seen] == [b"a body"]


@pytest.mark.parametrize("start", GATEWAYS)
def test_a_collector_that_hangs_holds_requests_up_for_a_moment_alone(start, tmp_path, service):
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        start(tmp_path, service, silent.getsockname()[1]) as gateway,
    ):
        began = time.monotonic()
        assert ask(gateway).status_code == 200
        assert time.monotonic() - began < 1.0
    assert len(service.seen) == 1


@pytest.mark.parametrize("start", GATEWAYS)
def test_a_wrong_token_refuses_nobody(start, tmp_path, service):
    data = tmp_path / "data"
    with (
        requiring("another", data) as collector,
        start(tmp_path, service, collector.port) as gateway,
    ):
        assert ask(gateway).status_code == 200
    assert len(service.seen) == 1


def test_what_gateways_refuse_is_counted(gateway, breakers, hot):
    trip(breakers, hot, f"POST /{hot}")
    for _ in range(5):
        assert ask(gateway, hot, path=f"/{hot}").status_code == 503
    shown = f'heatshield_breaker_rejected_total{{call="POST /{hot}",service="shop"}} 5.0'
    until = time.monotonic() + STARTS_S
    while shown not in breakers.get("/metrics").text:
        assert time.monotonic() < until, "nothing was counted"
        time.sleep(0.1)


# -- Envoy and Traefik: what they send, as their configurations on the page say --------------------


def config(number):
    """A configuration of the page, as the gateway reads it."""
    return yaml.safe_load(block("yaml", number))


def as_envoy_asks(url, method, path, headers):
    """The request that Envoy's ext_authz makes of a user's, by the page's configuration."""
    manager = config(0)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    authz = manager["typed_config"]["http_filters"][0]["typed_config"]
    assert authz["failure_mode_allow"] is True
    passed = {one["exact"] for one in authz["allowed_headers"]["patterns"]}
    passed |= {"host", "authorization"}  # which Envoy always sends
    sent = {name: value for name, value in headers.items() if name in passed}
    asked = authz["http_service"]
    for one in asked["authorization_request"]["headers_to_add"]:
        sent[one["key"]] = one["value"].replace("TOKEN", TOKEN)
    answer = httpx.request(method, url + asked["path_prefix"] + path, headers=sent)
    shown = asked["authorization_response"]["allowed_client_headers"]["patterns"]
    return answer.status_code, {one["exact"] for one in shown if one["exact"] in answer.headers}


def as_traefik_asks(url, method, path, headers):
    """The request that Traefik's forwardAuth makes of a user's, by the page's configuration."""
    auth = config(2)["http"]["middlewares"]["heatshield"]["forwardAuth"]
    passed = {name.lower() for name in auth["authRequestHeaders"]}
    sent = {name: value for name, value in headers.items() if name in passed}
    sent |= {"x-forwarded-method": method, "x-forwarded-uri": path}
    sent |= {"x-forwarded-host": headers["host"], "x-forwarded-proto": "https"}
    address = auth["address"].replace("127.0.0.1:8001", url.removeprefix("http://"))
    answer = httpx.get(address.replace("TOKEN", TOKEN), headers=sent)
    return answer.status_code, {"retry-after", "heatshield-breaker"} & set(answer.headers)


USERS_OWN = {
    "host": "shop.example",
    "origin": "https://shop.example",
    "sec-fetch-site": "cross-site",
    "authorization": "Bearer of-the-user",
    "heatshield-check-service": "other",
    "x-forwarded-uri": "/",
}


@pytest.mark.parametrize(("asks", "status"), [(as_envoy_asks, 429), (as_traefik_asks, 503)])
@pytest.mark.parametrize("collector", [TOKEN], indirect=True)
def test_envoy_and_traefik_are_told_whom_to_refuse(asks, status, collector, breakers, hot):
    trip(breakers, hot)
    path = PATH + "?service=other&user=other"
    told = asks(collector.url, "POST", path, USERS_OWN | {"x-user-id": hot})
    assert told == (status, {"retry-after", "heatshield-breaker"})
    for user, method in ((hot, "GET"), ("other", "POST")):
        assert asks(collector.url, method, path, USERS_OWN | {"x-user-id": user}) == (200, set())


def test_the_page_s_rate_limits_have_the_keys_that_are_read():
    manager = config(1)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    (limit,) = host["rate_limits"]
    keys = [one["request_headers"]["descriptor_key"] for one in limit["actions"]]
    assert keys == ["user", "method", "path"]
    limits = manager["typed_config"]["http_filters"][0]["typed_config"]
    assert (limits["domain"], limits["failure_mode_deny"]) == ("shop", False)


def test_where_a_gateway_needs_an_answer_haproxy_has_one(
    tmp_path, service, collector, breakers, hot
):
    trip(breakers, hot)
    question = {"service": "shop", "call": CALL}
    with lenient_haproxy(tmp_path, service, collector.port) as url:
        sent = {"x-user-id": hot, "authorization": f"Bearer {TOKEN}"}
        refused = httpx.get(f"{url}/v1/check", params=question, headers=sent)
        assert refused.status_code == 503
        assert refused.headers["heatshield-breaker"]
        sent["x-user-id"] = "other"
        assert httpx.get(f"{url}/v1/check", params=question, headers=sent).status_code == 200
        sent["authorization"] = "Bearer wrong"
        assert httpx.get(f"{url}/v1/check", params=question, headers=sent).status_code == 200
    with lenient_haproxy(tmp_path, service, free_port()) as url:
        began = time.monotonic()
        assert httpx.get(f"{url}/v1/check", params=question).status_code == 200
        assert time.monotonic() - began < 1.0
