"""The breaker routes: snapshots and 304, long poll, stream, reports, and who may change what."""

import json
import math
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest

from heatshield.breakers.lease_table import MIN_RENEW_S
from heatshield.contract import HEARTBEAT_S, Delta, Snapshot, StateVersion
from heatshield.process.loopback import is_loopback
from heatshield_collector.api.stream import STALL_S
from heatshield_collector.api.watch import SIGNED_S, _Stream
from heatshield_collector.ports import TripRequest
from heatshield_collector.signer import Signer

WISH = {"user": "u-1", "service": "shop", "call": "POST /p", "issuer": "human:ada"}


def until(condition):
    """Wait for other threads; fails where they never get there."""
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


def watchers(face):
    """The streams that are open."""
    (stream,) = (
        one.app for one in face.app.routes if isinstance(getattr(one, "app", None), _Stream)
    )
    return stream._fanout._watchers


def test_snapshot_follows_the_contract_and_carries_its_etag(face):
    face.breakers.trip(TripRequest("u-1", "shop", "POST /p", issuer="human:ada"))
    answer = face.get("/v1/breakers")
    state = Snapshot.from_json(answer.json())
    assert answer.headers["etag"] == '"3.18"'
    assert state.at == StateVersion(3, 18)
    assert [entry.user for entry in state.entries] == ["u-1"]


@pytest.mark.parametrize("tag", ['"3.17"', 'W/"3.17"', '"1.1", "3.17"'])
def test_a_known_version_is_answered_304_without_a_body(face, tag):
    answer = face.get("/v1/breakers", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == '"3.17"'


@pytest.mark.parametrize("tag", ['"3.16"', "3.17", "rubbish", ""])
def test_any_other_version_gets_the_whole_state(face, tag):
    assert face.get("/v1/breakers", headers={"If-None-Match": tag}).status_code == 200


def test_reading_changes_nothing_whatever_the_query_claims(face):
    """An image on any web page can make a browser read."""
    claim = "/v1/breakers?service=shop&instance=x&workers=4096"
    assert face.get(claim).status_code == 200
    assert face.breakers.reports == []
    parameters = face.get("/openapi.json").json()["paths"]["/v1/breakers"]["get"]["parameters"]
    assert {one["name"] for one in parameters} == {"wait", "if-none-match"}


def test_trip_then_clear(face):
    entry = face.call("POST", "/v1/breakers", json=WISH)
    assert entry.status_code == 201
    assert entry.json()["lease_ms"] == 30_000
    (listed,) = face.get("/v1/breakers").json()["entries"]
    assert (listed["id"], listed["left_s"]) == (entry.json()["id"], 12.5)
    assert entry.json()["issuer"] == "human:ada"
    cleared = face.call("DELETE", f"/v1/breakers/{entry.json()['id']}?by=ada")
    assert cleared.json()["cleared"] == entry.json()
    assert face.breakers.changes_by == [(entry.json()["id"], "ada")]


def test_clearing_what_is_not_held_is_404_with_a_sentence(face):
    answer = face.call("DELETE", "/v1/breakers/b-9")
    assert answer.status_code == 404
    assert "b-9" in answer.json()["error"]


def test_a_refusal_of_the_policy_is_409_with_its_reason(face):
    face.breakers.full = True
    answer = face.call("POST", "/v1/breakers", json=WISH)
    assert (answer.status_code, answer.json()) == (
        409,
        {"error": "100 entries are held, more are not granted"},
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user": ""}, "user"),
        ({"lease_ms": 0}, "lease_ms"),
        ({"lease_ms": 15 * 60_000 + 1}, "lease_ms"),
        ({"mode": "explode"}, "mode"),
        ({"rate_per_s": -1}, "rate_per_s"),
        ({"issuer": "rule:HarmfulUser"}, "issuer"),
        ({"service": None}, "service"),
    ],
)
def test_an_impossible_trip_is_422_and_names_the_field(face, change, named):
    answer = face.call("POST", "/v1/breakers", json=WISH | change)
    assert answer.status_code == 422
    assert named in answer.json()["error"]
    assert face.breakers.snapshot().entries == ()


def test_a_trip_that_is_not_sent_as_json_is_refused(face):
    """A form of a foreign web page can post text/plain here, but not JSON."""
    answer = face.call(
        "POST",
        "/v1/breakers",
        content=json.dumps(WISH),
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 422
    assert face.breakers.snapshot().entries == ()


def test_the_state_says_how_many_instances_enforce_nothing(face):
    report = {"service": "shop", "instance": "i", "workers": 2, "applied": "3.17"}
    assert face.get("/v1/breakers").json()["not_enforcing"] == 0
    face.call("POST", "/v1/breakers/report", json={**report, "enforcing": False})
    assert face.get("/v1/breakers").json()["not_enforcing"] == 1


def test_evidence_that_is_no_number_in_json_keeps_the_state_from_nobody(face):
    face.breakers.trip(TripRequest(**WISH))
    (entry,) = face.breakers.snapshot().entries
    entry.evidence["load"] = math.inf
    answer = face.get("/v1/breakers")
    assert Snapshot.from_json(answer.json()).entries[0].evidence == {"load": None}


def test_a_signed_state_is_written_out_anew_a_few_times_a_second_however_many_ask(face):
    """A client that wants it signed is never answered 304, and thousands renew."""
    ports = replace(face.ports, signer=Signer(bytes(32), face.ports.clock))
    signing = type(face)(ports, [], [])

    def issued():
        signed = signing.get("/v1/breakers").json()["signed"]
        return json.loads(signed["text"])

    first = issued()
    ports.clock.advance(SIGNED_S - 0.01)
    assert issued() == first
    ports.clock.advance(0.01)
    later = issued()
    assert later["issued_ns"] > first["issued_ns"]
    ports.breakers.trip(TripRequest(**WISH))
    assert issued()["version"] > later["version"]
    assert SIGNED_S < MIN_RENEW_S, "or a renewal of one client would be the one before"


def test_a_malformed_report_is_400_and_changes_nothing(face):
    answer = face.call("POST", "/v1/breakers/report", json={"service": "shop"})
    assert answer.status_code == 400
    assert "instance" in answer.json()["error"]
    assert face.breakers.reports == []


CHANGES = [
    ("POST", "/v1/breakers", WISH),
    ("DELETE", "/v1/breakers/b-1", None),
    ("PUT", "/api/mode", {"mode": "shadow"}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_with_a_token_only_its_holder_changes_anything(face, method, path, body):
    guarded = face.with_token("s3cret")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        answer = guarded.call(method, path, json=body, headers=header)
        assert answer.status_code == 401
        assert "Bearer" in answer.json()["error"]
    guarded.peer = "10.1.2.3"
    answer = guarded.call(method, path, json=body, headers={"Authorization": "Bearer s3cret"})
    assert answer.status_code < 500
    assert answer.status_code not in (401, 403)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_being_on_this_machine_proves_nothing(face, method, path, body):
    """Behind a proxy on the collector's machine every caller is."""
    face.peer = "127.0.0.1"
    answer = face.call(method, path, json=body, headers={"Authorization": ""})
    assert answer.status_code == 401
    assert "admin-token" in answer.json()["error"]
    assert "HEATSHIELD_COLLECTOR_ADMIN_TOKEN" in answer.json()["error"]
    assert face.breakers.at() == StateVersion(3, 17)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.evil.example", False),
        ("0.0.0.0", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
        (None, False),
    ],
)
def test_what_counts_as_this_machine(host, ours):
    assert is_loopback(host) is ours


def test_mode_is_read_and_switched_by_whom(face):
    assert face.get("/api/mode").json() == {"mode": "protect", "cold_start_left_s": 0.0}
    changed = face.call("PUT", "/api/mode", json={"mode": "shadow", "by": "ada"})
    assert changed.json() == {"mode": "shadow", "cold_start_left_s": 0.0}
    assert face.breakers.changes_by == [("shadow", "ada")]


def test_an_unknown_mode_is_422_and_says_what_is_allowed(face):
    answer = face.call("PUT", "/api/mode", json={"mode": "off"})
    assert answer.status_code == 422
    assert "shadow" in answer.json()["error"]


def test_stream_begins_with_a_snapshot_then_sends_deltas_with_their_base(face, live, sse):
    url, _ = live
    with sse(f"{url}/v1/breakers/stream") as events:
        name, event_id, data = events.next()
        assert (name, event_id) == ("snapshot", "3.17")
        assert Snapshot.from_json(json.loads(data)).entries == ()
        entry = face.breakers.trip(TripRequest("u-1", "shop", "POST /p", issuer="human:ada"))
        name, event_id, data = events.until("delta")
        delta = Delta.from_json(json.loads(data))
        assert (event_id, delta.base, delta.upsert) == ("3.18", StateVersion(3, 17), (entry,))


def test_a_grant_reaches_a_connected_client_at_once(face, live, sse):
    """Far below the 2 s of a heartbeat and the 250 ms that are promised: it is pushed."""
    url, _ = live
    with sse(f"{url}/v1/breakers/stream") as events:
        events.until("snapshot")
        delays = []
        for user in ("u-1", "u-2", "u-3"):
            granted = time.monotonic()
            face.breakers.trip(TripRequest(user, "shop", "POST /p", issuer="human:ada"))
            events.until("delta")
            delays.append(time.monotonic() - granted)
        assert sorted(delays)[1] < 0.25


@pytest.mark.parametrize("last", ["3.2", "99.1", "2.17", "rubbish"])
def test_stream_resumed_from_an_unknown_version_begins_with_a_snapshot(face, live, sse, last):
    url, _ = live
    with sse(f"{url}/v1/breakers/stream", {"Last-Event-ID": last}) as events:
        assert events.next()[:2] == ("snapshot", "3.17")


def test_stream_resumed_from_a_remembered_version_begins_with_the_delta(face, live, sse):
    url, _ = live
    face.breakers.trip(TripRequest("u-1", "shop", "POST /p", issuer="human:ada"))
    with sse(f"{url}/v1/breakers/stream", {"Last-Event-ID": "3.17"}) as events:
        assert events.next()[:2] == ("delta", "3.18")
    with sse(f"{url}/v1/breakers/stream", {"Last-Event-ID": "3.18"}) as events:
        assert events.next()[:2] == ("heartbeat", "3.18")


def test_stream_sends_a_heartbeat_when_nothing_changes(face, live, sse):
    url, _ = live
    with sse(f"{url}/v1/breakers/stream?service=shop&instance=i-1") as events:
        events.until("snapshot")
        until(lambda: face.ports.clock.waiting)
        face.ports.clock.advance(HEARTBEAT_S - 0.1)
        assert face.ports.clock.waiting
        face.ports.clock.advance(0.2)
        assert events.next()[:2] == ("heartbeat", "3.17")


def test_streams_and_long_polls_end_at_once_when_the_server_stops(face, live, sse):
    url, server = live
    polled: list[int] = []

    def poll() -> None:
        answer = httpx.get(
            f"{url}/v1/breakers?wait=25", headers={"If-None-Match": '"3.17"'}, timeout=30
        )
        polled.append(answer.status_code)

    with sse(f"{url}/v1/breakers/stream") as watching, sse(f"{url}/api/events") as listening:
        watching.until("snapshot")
        poller = threading.Thread(target=poll)
        poller.start()
        while len(face.breakers.changed._wakes) < 2:
            time.sleep(0.005)
        began = time.monotonic()
        server.should_exit = True
        with pytest.raises(EOFError):
            watching.until("never")
        with pytest.raises(EOFError):
            listening.until("never")
        poller.join(5)
        assert time.monotonic() - began < 1.5
    assert polled == [304]


def test_a_stream_whose_client_left_is_forgotten(face, live, sse):
    url, _ = live
    with sse(f"{url}/v1/breakers/stream") as events:
        events.until("snapshot")
        assert len(face.breakers.changed._wakes) == 1
    deadline = time.monotonic() + 3
    while face.breakers.changed._wakes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not face.breakers.changed._wakes


def test_a_client_that_does_not_read_holds_up_nobody_and_is_given_up(face, live, sse):
    url, _ = live
    address = url.removeprefix("http://").split(":")
    with socket.socket() as deaf, sse(f"{url}/v1/breakers/stream") as events:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((address[0], int(address[1])))
        deaf.sendall(b"GET /v1/breakers/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        events.until("snapshot")
        until(lambda: len(watchers(face)) == 2)
        for number in range(200):  # 8 MB, more than the kernel takes for one that does not read
            face.breakers.trip(TripRequest(f"u-{number}", "shop", "POST /p", reason="x" * 40_000))
            events.until("delta")
        for _ in range(round(STALL_S / HEARTBEAT_S)):
            assert len(watchers(face)) == 2
            until(lambda: face.ports.clock.waiting)
            face.ports.clock.advance(HEARTBEAT_S)
            events.until("heartbeat")
        until(lambda: len(watchers(face)) == 1)


def test_a_stream_asked_for_by_head_is_none(face):
    assert face.call("HEAD", "/v1/breakers/stream").status_code == 405


def test_long_poll_returns_the_state_as_soon_as_it_changes(face, live):
    url, _ = live
    answers: list[tuple[httpx.Response, float]] = []

    def poll() -> None:
        answer = httpx.get(
            f"{url}/v1/breakers?wait=25", headers={"If-None-Match": '"3.17"'}, timeout=30
        )
        answers.append((answer, time.monotonic()))

    poller = threading.Thread(target=poll)
    poller.start()
    while not face.breakers.changed._wakes:
        time.sleep(0.005)
    changed = time.monotonic()
    face.breakers.trip(TripRequest("u-1", "shop", "POST /p", issuer="human:ada"))
    poller.join(10)
    answer, at = answers[0]
    assert (answer.status_code, answer.headers["etag"]) == (200, '"3.18"')
    assert at - changed < 1.0
    assert not face.breakers.changed._wakes


def test_long_poll_that_sees_no_change_is_304_after_its_wait(face):
    answers = []
    poller = threading.Thread(
        target=lambda: answers.append(
            face.get("/v1/breakers?wait=25", headers={"If-None-Match": '"3.17"'})
        )
    )
    poller.start()
    until(lambda: face.ports.clock.waiting)
    face.ports.clock.advance(25.1)
    poller.join(30)
    assert [answer.status_code for answer in answers] == [304]
