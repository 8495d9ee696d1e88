"""``/api/events`` over real HTTP."""

import json
import socket
import time
from urllib.parse import urlsplit

from heatshield_collector.events import EventHub


def wait_for(condition, seconds=3.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_listeners_hear_what_happens_in_order_with_increasing_ids(face, live, sse):
    url, _ = live
    hub: EventHub = face.ports.events
    with sse(f"{url}/api/events") as one, sse(f"{url}/api/events") as other:
        wait_for(lambda: hub.subscribers == 2)
        hub.publish("finding", {"at_ns": 1, "class": "hot"})
        hub.publish("mode", {"at_ns": 2, "mode": "shadow"})
        for listener in (one, other):
            first, second = listener.next(), listener.next()
            assert (first[0], json.loads(first[2])) == ("finding", {"at_ns": 1, "class": "hot"})
            assert second[0] == "mode"
            assert int(second[1]) > int(first[1])


def test_a_listener_that_left_is_forgotten(face, live, sse):
    url, _ = live
    hub: EventHub = face.ports.events
    with sse(f"{url}/api/events"):
        wait_for(lambda: hub.subscribers == 1)
    wait_for(lambda: hub.subscribers == 0)


def test_a_listener_that_does_not_read_is_cut_off_and_others_are_not(face, live, sse):
    """It holds a full socket; who publishes never waits, and the queue never outgrows its bound."""
    url, _ = live
    hub: EventHub = face.ports.events
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        wait_for(lambda: hub.subscribers == 1)
        longest = 0.0
        payload = {"at_ns": 1, "text": "x" * 20_000}
        for _ in range(1_500):
            began = time.monotonic()
            hub.publish("finding", payload)
            longest = max(longest, time.monotonic() - began)
            if hub.cut_off:
                break
            time.sleep(0.0005)
        assert hub.cut_off == 1
        assert hub.subscribers == 0
        assert longest < 0.5
        with sse(f"{url}/api/events") as listener:
            wait_for(lambda: hub.subscribers == 1)
            hub.publish("mode", {"at_ns": 2})
            assert listener.next()[0] == "mode"


def test_more_listeners_than_allowed_are_turned_away_with_503(face, live):
    hub: EventHub = face.ports.events
    hub._max_subscribers = 0
    answer = face.get("/api/events")
    assert answer.status_code == 503
    assert "listen already" in answer.json()["error"]


def test_after_closing_nobody_can_listen(face):
    face.ports.events.close()
    assert face.get("/api/events").status_code == 503
    assert face.get("/v1/breakers/stream").status_code == 503
