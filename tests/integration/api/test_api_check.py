"""``/v1/check`` as gateways ask it: by parameters, by headers, by the request's own path."""

import asyncio
import base64

import httpx
import pytest
from control_platform import Platform

from heatshield.contract import BreakerMode
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.gateways import Checks, Shortcut, routes
from heatshield_collector.ports import TripRequest

from .conftest import Face

CALL = "POST /users/{id}/stickers"
PATH = "/users/7/stickers"
HOT = {"x-user-id": "hot"}
SERVICE = {"heatshield-check-service": "shop"}


@pytest.fixture
def platform():
    platform = Platform()
    platform.entry = platform.breakers.trip(TripRequest("hot", "shop", CALL, issuer="human:ana"))
    return platform


@pytest.fixture
def gateway(face, platform):
    """Makes the application with settings of its own, and asks it."""

    def make(authenticator=None, **settings):
        identity = Identity(ServiceSettings(**({"user_header": "x-user-id"} | settings)))
        checks = Checks(platform.breakers, platform.clock)
        intake = routes(checks, identity, authenticator or AdminTokenAuthenticator())
        return Face(face.ports, intake=intake)

    return make


def test_by_parameters(gateway, platform):
    asked = gateway()
    hot = {"user": "hot", "service": "shop", "call": CALL}
    for method in ("GET", "POST"):
        answer = asked.call(method, "/v1/check", params=hot)
        assert answer.status_code == 503
        assert answer.headers["heatshield-breaker"] == platform.entry.id
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert answer.headers["cache-control"] == "no-store"
        assert platform.entry.id in answer.json()["detail"]
        allowed = asked.call(method, "/v1/check", params=hot | {"user": "other"})
        assert (allowed.status_code, allowed.content) == (200, b"")
        assert "heatshield-breaker" not in allowed.headers
    assert asked.get("/v1/check", params={"service": "shop", "call": CALL}).status_code == 200


def test_the_user_may_stand_in_the_header(gateway):
    asked = gateway()
    question = {"service": "shop", "call": CALL}
    assert asked.get("/v1/check", params=question, headers=HOT).status_code == 503
    assert asked.get("/v1/check", params=question, headers={"x-user-id": "b"}).status_code == 200
    other = gateway(user_header="x-account")
    assert other.get("/v1/check", params=question, headers={"x-account": "hot"}).status_code == 503
    assert other.get("/v1/check", params=question, headers=HOT).status_code == 200


def test_a_paced_user_is_told_429(gateway, platform):
    paced = TripRequest("slow", "shop", CALL, BreakerMode.PACE, budget=0.001, issuer="human:ana")
    platform.breakers.trip(paced)
    asked = gateway()
    question = {"service": "shop", "call": CALL, "user": "slow"}
    answers = [asked.get("/v1/check", params=question) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 429, 429]
    assert answers[1].headers["heatshield-breaker"]
    assert int(answers[1].headers["retry-after"]) >= 1
    answer = asked.get("/v1/check", params=question | {"refusal_status": "403"})
    assert (answer.status_code, answer.headers["heatshield-status"]) == (403, "429")


def test_by_method_and_path_in_parameters_or_as_traefik_forwards_them(gateway):
    asked = gateway()
    by_parameters = {"service": "shop", "method": "POST", "path": PATH + "?x=1&y=2"}
    assert asked.get("/v1/check", params=by_parameters, headers=HOT).status_code == 503
    forwarded = {
        **HOT,
        "x-forwarded-method": "POST",
        "x-forwarded-uri": PATH + "?user=other&service=other",
        "x-forwarded-host": "shop.example",
    }
    assert asked.get("/v1/check?service=shop", headers=forwarded).status_code == 503
    forwarded["x-forwarded-method"] = "GET"
    assert asked.get("/v1/check?service=shop", headers=forwarded).status_code == 200


@pytest.mark.parametrize("path", [PATH, "/users/%37/stickers", PATH + "?x=1"])
def test_by_the_request_s_own_path_and_method_as_envoy_asks(gateway, path):
    asked = gateway()
    url = "/v1/check" + path
    assert asked.call("POST", url, headers=HOT | SERVICE).status_code == 503
    assert asked.call("POST", url, headers={"x-user-id": "b"} | SERVICE).status_code == 200
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PURGE"):
        assert asked.call(method, url, headers=HOT | SERVICE).status_code == 200
    assert asked.call("POST", "/v1/check/", headers=HOT | SERVICE).status_code == 200


def test_a_call_over_grpc_is_told_by_its_path(gateway, platform):
    platform.breakers.trip(TripRequest("hot", "shop", "shop.Cart/Add", issuer="human:ana"))
    asked = gateway()
    assert asked.call("POST", "/v1/check/shop.Cart/Add", headers=HOT | SERVICE).status_code == 503
    assert asked.call("POST", "/v1/check/shop.Cart/Get", headers=HOT | SERVICE).status_code == 200


def test_a_user_s_own_query_says_nothing_to_the_collector(gateway):
    asked = gateway()
    query = "user=other&service=other&call=GET%20/&refusal_status=429&path=/&method=GET"
    url = f"/v1/check{PATH}?{query}"
    assert asked.call("POST", url, headers=HOT | SERVICE).status_code == 503


def test_headers_say_nothing_where_parameters_are_asked(gateway):
    """A gateway may forward all that the user sent."""
    asked = gateway()
    sent = {**HOT, "heatshield-check-call": "GET /", "heatshield-check-user": "other"}
    question = {"service": "shop", "call": CALL}
    assert asked.get("/v1/check", params=question, headers=sent).status_code == 503


def test_of_two_headers_that_name_a_user_the_gateway_s_counts_which_is_the_last(gateway):
    asked = gateway()
    two = [("x-user-id", "innocent"), ("x-user-id", "hot")]
    question = {"service": "shop", "call": CALL}
    assert asked.get("/v1/check", params=question, headers=two).status_code == 503


def test_a_gateway_chooses_the_status_of_a_refusal(gateway):
    """For some a 503 is the collector's own failure, and they let the request go on."""
    asked = gateway()
    question = {"service": "shop", "call": CALL, "refusal_status": "403"}
    answer = asked.get("/v1/check", params=question, headers=HOT)
    assert (answer.status_code, answer.headers["heatshield-status"]) == (403, "503")
    headers = HOT | SERVICE | {"heatshield-check-refusal-status": "429"}
    answer = asked.call("POST", "/v1/check" + PATH, headers=headers)
    assert (answer.status_code, answer.headers["heatshield-status"]) == (429, "503")
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("/v1/check", "/v1/check?service=NAME"),
        ("/v1/check?service=", "/v1/check?service=NAME"),
        ("/v1/check/users", "heatshield-check-service"),
        ("/v1/check?service=shop&refusal_status=200", "403, 429, 503"),
    ],
)
def test_a_gateway_that_asks_wrongly_is_told_at_once(gateway, url, says):
    answer = gateway().get(url)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-user-id": b"\xff\xfe"},
        {"x-user-id": "x" * 60_000},
        {"x-user-id": "   "},
        {"x-forwarded-uri": b"/\xff%zz%", "x-forwarded-method": "\t"},
        {"x-forwarded-uri": "no path", "x-forwarded-method": "P" * 5_000},
    ],
)
def test_whatever_a_user_sends_is_no_mistake_of_the_gateway(gateway, headers):
    answer = gateway().get("/v1/check?service=shop", headers=HOT | headers)
    assert answer.status_code == 200


def test_pseudonyms_are_matched_by_raw_ids_where_the_collector_has_the_key(gateway, platform):
    key = "a key of pseudonyms"
    name = Identity(ServiceSettings(user_key=key)).known_as("ana@example.org")
    platform.breakers.trip(TripRequest(name, "shop", CALL, issuer="human:ana"))
    question = {"service": "shop", "call": CALL}
    raw, known = {"x-user-id": "ana@example.org"}, {"x-user-id": name}
    assert gateway().get("/v1/check", params=question, headers=raw).status_code == 200
    for named in (raw, known):
        answer = gateway(user_key=key).get("/v1/check", params=question, headers=named)
        assert answer.status_code == 503


def test_a_token_is_asked_for_as_bearer_or_as_the_password_of_basic(gateway):
    asked = gateway(AdminTokenAuthenticator(token="of callers"))  # noqa: S106
    question = {"service": "shop", "call": CALL}

    def status(authorization):
        headers = HOT | {"Authorization": authorization}
        return asked.get("/v1/check", params=question, headers=headers).status_code

    def basic(text):
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert status("Bearer of callers") == status(basic("gateway:of callers")) == 503
    bad = "Basic é".encode()
    for wrong in ("", "Bearer x", basic("of callers:x"), basic("of callers"), "Basic %%%", bad):
        assert status(wrong) == 401


@pytest.mark.parametrize(
    ("path", "goes_around"),
    [
        ("/v1/check", True),
        ("/v1/check/", True),
        ("/v1/check/users/7", True),
        ("/v1/checks", False),
        ("/v1/breakers", False),
        ("/", False),
    ],
)
def test_what_gateways_ask_goes_around_the_application_and_nothing_else_does(
    platform, path, goes_around
):
    reached = []

    async def application(scope, _receive, send):
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    checks = Checks(platform.breakers, platform.clock)
    asked = routes(checks, Identity(ServiceSettings()), AdminTokenAuthenticator())

    async def ask():
        transport = httpx.ASGITransport(Shortcut(application, asked))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    status = asyncio.run(ask()).status_code
    assert (status, reached) == ((400, []) if goes_around else (204, [path]))
