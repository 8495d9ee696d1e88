"""The sticker shop as it runs: four services, a Redis and a collector, all real processes."""

import asyncio
import time

import httpx
import pytest
import redis

from heatshield.cli.local_token import local_token
from heatshield.names import BREAKER_HEADER
from heatshield_stickershop import population
from heatshield_stickershop.load import LoadSettings, run
from heatshield_stickershop.platform import SERVICES, Platform, PlatformSettings

SEED = 5
USER = "u-0001"
GRANTED_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stickershop")
    settings = PlatformSettings(directory, mode="protect", cold_start_s=3_600.0, seed=SEED)
    with Platform(settings) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(platform):
    with httpx.Client(base_url=platform.gateway_url, timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def collector(platform):
    with httpx.Client(base_url=platform.collector_url, timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def cache(platform):
    with redis.Redis.from_url(platform.redis_url, decode_responses=True) as client:
        yield client


def buy(gateway, user, sticker):
    return gateway.post(f"/stickers/{sticker}/purchase", headers={"x-user-id": user})


def send(gateway, user, sticker=None):
    message = {"to": "u-0002", "text": "hello", "sticker": sticker}
    return gateway.post("/messages", json=message, headers={"x-user-id": user})


def until(found, within_s=GRANTED_WITHIN_S):
    """Poll for something that real processes do soon."""
    deadline = time.monotonic() + within_s
    while not (value := found()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def test_a_plain_message_and_one_with_an_owned_sticker_are_accepted(gateway):
    assert send(gateway, USER).status_code == 202
    owned = population.stickers_of(USER, SEED)[0]
    assert send(gateway, USER, owned).status_code == 202


def test_a_sticker_that_the_sender_does_not_own_is_refused(gateway):
    assert send(gateway, USER, "not-mine").status_code == 403


def test_a_request_without_a_user_is_refused(gateway):
    assert gateway.post("/stickers/new-1/purchase").status_code == 422


def test_a_purchase_rewrites_the_whole_set_and_the_sticker_can_be_sent_at_once(gateway, cache):
    user = "u-0003"
    key = f"user:{user}:stickers"
    cache.sadd(key, "stale")
    answer = buy(gateway, user, "new-1")
    assert answer.status_code == 201
    owned = {*population.stickers_of(user, SEED), "new-1"}
    assert answer.json() == {"owned": len(owned)}
    assert cache.smembers(key) == owned
    assert send(gateway, user, "new-1").status_code == 202


def test_buying_the_same_sticker_twice_buys_it_once(gateway):
    assert buy(gateway, "u-0004", "new-1").json() == buy(gateway, "u-0004", "new-1").json()


def test_the_collector_links_a_purchase_of_20000_elements_to_its_user(gateway, collector):
    assert buy(gateway, population.HOT_USER, "new-1").json() == {"owned": 20_001}
    query = {"user": population.HOT_USER, "limit": 10}

    def linked():
        rows = collector.get("/api/requests", params=query).json()["requests"]
        return [row for row in rows if row["elements"] >= 20_001 and len(row["services"]) > 1]

    rows = until(linked)
    assert rows, "the purchase was not linked in time"

    def with_log():
        # Spans and logs are two payloads; the second may be durable a moment later.
        found = collector.get(f"/api/requests/{rows[0]['trace_id']}").json()
        return any("sticker bought" in log["body"] for log in found["logs"]) and found

    request = until(with_log)
    assert request, "its log record was not linked in time"
    assert request["user"] == population.HOT_USER
    assert set(request["services"]) == {"gateway", "shop"}
    calls = {span["call"] for span in request["spans"] if span["service"] == "shop"}
    assert calls == {"POST /purchases"}


def test_every_service_takes_the_user_from_the_baggage(gateway, collector):
    owned = population.stickers_of("u-0005", SEED)[0]
    send(gateway, "u-0005", owned)

    def services():
        rows = collector.get("/api/requests", params={"user": "u-0005"}).json()["requests"]
        return rows and set(rows[0]["services"]) == {"gateway", "talk", "capability"} and rows[0]

    row = until(services)
    assert row, "the message was not linked in time"
    request = collector.get(f"/api/requests/{row['trace_id']}").json()
    assert {span["user"] for span in request["spans"]} == {"u-0005"}


def test_a_tripped_user_is_refused_at_the_gateway_unretried_and_nobody_else_is(gateway, collector):
    tripped, other = "u-0006", "u-0007"
    entry = {"user": tripped, "service": "shop", "call": "POST /purchases", "issuer": "human:test"}
    admin = {"Authorization": f"Bearer {local_token(str(collector.base_url))}"}
    answer = collector.post("/v1/breakers", json=entry, headers=admin)
    assert answer.status_code == 201
    entry_id = answer.json()["id"]
    refused = until(lambda: (found := buy(gateway, tripped, "new-1")).status_code == 503 and found)
    assert refused.headers[BREAKER_HEADER] == entry_id
    assert int(refused.headers["Retry-After"]) >= 1
    started = time.monotonic()
    assert buy(gateway, tripped, "new-1").status_code == 503
    assert time.monotonic() - started < 0.5, "a rejection was retried"
    assert buy(gateway, other, "new-1").status_code == 201
    assert send(gateway, tripped).status_code == 202
    collector.delete(f"/v1/breakers/{entry_id}", params={"by": "test"}, headers=admin)
    assert until(lambda: buy(gateway, tripped, "new-1").status_code == 201)


def test_the_load_is_carried_without_errors_and_each_request_recorded(platform):
    sent = []
    settings = LoadSettings(
        platform.gateway_url, seed=SEED, rate_per_s=40.0, calm_s=1.5, hot_s=1.5, connections=2
    )
    asyncio.run(run(settings, sent.append))
    others = [one for one in sent if not one.hot]
    assert {one.status for one in others} <= {201, 202}
    assert len(others) == pytest.approx(120, abs=40)
    first_hot_ns = min(one.due_ns for one in sent if one.hot)
    assert first_hot_ns - min(one.due_ns for one in sent) == pytest.approx(1.5e9, abs=0.3e9)
    assert {one.user for one in sent if one.hot} == {population.HOT_USER}


def test_every_service_process_reports_to_the_collector(platform, collector):
    calls = collector.get("/api/calls", params={"window": "5m"}).json()["calls"]
    assert set(SERVICES) <= {call["service"] for call in calls}
