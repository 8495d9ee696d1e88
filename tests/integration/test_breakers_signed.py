"""A collector that signs, and services that pin a key: the right one, another, none."""

import http.client
import json
import time

import pytest

from collector_process import collector_process
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.signature import verifier
from heatshield.breakers.watch import Watch
from heatshield.clock import SystemClock
from heatshield_collector.signer import Signer, make_key

WITHIN_S = 15.0


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signing")
    seed = make_key(folder / "breakers.key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEATSHIELD_COLLECTOR_SIGNING_KEY", str(folder / "breakers.key"))
        with collector_process(folder / "data", "--mode", "protect") as collector:
            collector.token = (folder / "data" / "admin-token").read_text().strip()
            collector.key = Signer(seed, SystemClock()).public_key
            yield collector


@pytest.fixture
def following(signing):
    watches = []

    def follow(key):
        table = BreakerTable("shop")
        watch = Watch(
            signing.url, table, SystemClock(), service="shop",
            instance=lambda: f"i-{len(watches)}", workers=1, checks=verifier(key),
        )  # fmt: skip
        watches.append(watch)
        watch.start()
        return table

    yield follow
    for watch in watches:
        watch.stop()


def trip(collector, user):
    body = {"user": user, "service": "shop", "call": "buy", "issuer": "human:ann"}
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=10)
    headers = {
        "content-type": "application/json", "authorization": f"Bearer {collector.token}"
    }  # fmt: skip
    connection.request("POST", "/v1/breakers", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


def refuses(table, user):
    return not table.decide(user, "buy", time.monotonic()).allowed


def until(condition):
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_service_that_pins_the_key_follows_snapshots_and_deltas_and_renews(signing, following):
    table = following(signing.key)
    until(lambda: table.at is not None)
    trip(signing, "u-1")
    until(lambda: refuses(table, "u-1"))
    late = following(signing.key)
    until(lambda: refuses(late, "u-1"))
    anchor = table._anchor
    until(lambda: table._anchor > anchor)  # by a GET, whose answer is signed


def test_one_that_pins_another_key_has_nobody_refused(signing, following):
    other = following(Signer(bytes(32), SystemClock()).public_key)
    right = following(signing.key)
    trip(signing, "u-2")
    until(lambda: refuses(right, "u-2"))
    assert other.at is None
    assert not refuses(other, "u-2")


def test_one_that_pins_none_follows_as_ever(signing, following):
    table = following("")
    trip(signing, "u-3")
    until(lambda: refuses(table, "u-3"))


def test_state_that_is_not_signed_is_refused_where_a_key_is_pinned(tmp_path, signing, monkeypatch):
    monkeypatch.delenv("HEATSHIELD_COLLECTOR_SIGNING_KEY")
    with collector_process(tmp_path / "data", "--mode", "protect") as unsigned:
        table = BreakerTable("shop")
        watch = Watch(
            unsigned.url, table, SystemClock(), service="shop", instance=lambda: "i-1",
            workers=1, checks=verifier(signing.key),
        )  # fmt: skip
        watch.start()
        unsigned.token = (tmp_path / "data" / "admin-token").read_text().strip()
        trip(unsigned, "u-1")
        time.sleep(1.0)  # long enough for a grant, were it believed
        watch.stop()
        assert table.at is None
