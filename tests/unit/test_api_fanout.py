"""Every client that watches hears of each change and each quiet time, and none holds up others."""

import asyncio
import json
import logging
from typing import Any, cast

import pytest
from control_platform import Heard, Journaled, Told

from heatshield.clock import ManualClock
from heatshield.contract import HEARTBEAT_S, Delta, Snapshot, StateVersion
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_collector.api import breaker_events, fanout
from heatshield_collector.api.breaker_events import BreakerEvents
from heatshield_collector.api.fanout import TICK_S
from heatshield_collector.api.stream import STALL_S, encode_event
from heatshield_collector.api.watch import stream_route
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.control import Breakers, Outlets
from heatshield_collector.events import EventHub, HubClosedError
from heatshield_collector.ports import Ports, TripRequest, UnauthenticatedError


class Client:
    """A client as the server has it: it may stop to read, and leave."""

    def __init__(self, last: str = "") -> None:
        self.messages: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        headers = [(b"last-event-id", last.encode())] if last else []
        path = "/v1/breakers/stream"
        self.scope = {"type": "http", "method": "GET", "path": path, "headers": headers}

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.messages.append(message)
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.left.set()

    @property
    def bodies(self) -> list[bytes]:
        return [one["body"] for one in self.messages[1:]]

    @property
    def heard(self) -> list[tuple[str, str]]:
        """(event, id) of each event."""
        lines = [body.decode().splitlines() for body in self.bodies if body]
        return [(one[0].removeprefix("event: "), one[2].removeprefix("id: ")) for one in lines]

    def data(self, number: int) -> Any:
        return json.loads(self.bodies[number].decode().splitlines()[1].removeprefix("data: "))

    @property
    def is_complete(self) -> bool:
        return self.messages[-1].get("more_body") is False


class CountingClock(ManualClock):
    """Counts the waits that were begun."""

    waits = 0

    async def wait_async(self, event, seconds=None):
        self.waits += 1
        return await super().wait_async(event, seconds)


class Streams:
    """The stream's route over a real breaker state, on a manual clock."""

    def __init__(self, token: str = "") -> None:
        self.clock = CountingClock()
        silent = Outlets(Journaled(), Heard(), Told())
        self.breakers = Breakers(BreakerControl(3), silent, lambda *_: None, self.clock)
        self.hub = EventHub(encode_event, clock=self.clock)
        nothing = cast("Any", None)
        fields = dict.fromkeys(Ports.__dataclass_fields__, nothing) | {
            "breakers": self.breakers,
            "events": self.hub,
            "clock": self.clock,
            "authenticator": AdminTokenAuthenticator("admin", token=token),
        }
        self.app = cast("Any", stream_route(Ports(**fields))).app

    def connect(self, client: Client) -> "asyncio.Task[None]":
        return asyncio.create_task(self.app(client.scope, client.receive, client.send))

    async def watch(self, *clients: Client) -> list["asyncio.Task[None]"]:
        """Connect, and wait until each has its first event."""
        tasks = [self.connect(client) for client in clients]
        await until(lambda: all(client.bodies for client in clients))
        await until(lambda: self.clock.waiting)
        return tasks

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, and have all be done that is due then, which must be something."""
        before = self.clock.waits
        self.clock.advance(seconds)
        await until(lambda: self.clock.waits > before)

    def trip(self, user: str) -> None:
        self.breakers.trip(TripRequest(user, "shop", "POST /p", issuer="human:ana"))

    @property
    def subscriptions(self) -> int:
        return len(self.breakers._changed._wakes) + len(self.hub.closing._wakes)


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - it is many things
            await asyncio.sleep(0)


def run(scenario):
    asyncio.run(scenario())


def test_all_at_one_version_are_told_by_the_same_bytes_which_are_made_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        breaker_events, "encode_event", lambda *told: made.append(told[0]) or encode_event(*told)
    )

    async def scenario():
        streams = Streams()
        clients = [Client() for _ in range(400)]
        await streams.watch(*clients)
        streams.trip("u-1")
        await until(lambda: all(len(client.bodies) == 2 for client in clients))
        assert made == ["snapshot", "delta"]
        assert len({id(client.bodies[1]) for client in clients}) == 1
        assert clients[0].heard == [("snapshot", "3.0"), ("delta", "3.1")]
        assert Snapshot.from_json(clients[0].data(0)).entries == ()
        delta = Delta.from_json(clients[-1].data(1))
        assert (delta.base, [entry.user for entry in delta.upsert]) == ((3, 0), ["u-1"])

    run(scenario)


def test_one_that_does_not_read_holds_up_nobody_and_then_gets_all_changes_as_one():
    async def scenario():
        streams, slow, quick = Streams(), Client(), Client()
        await streams.watch(slow, quick)
        slow.reads.clear()
        for number in (1, 2, 3):
            streams.trip(f"u-{number}")
            await until(lambda told=number: len(quick.bodies) == 1 + told)
        assert [one[0] for one in quick.heard] == ["snapshot", "delta", "delta", "delta"]
        assert slow.heard == [("snapshot", "3.0")]
        slow.reads.set()
        await until(lambda: len(slow.bodies) == 3)
        assert slow.heard[1:] == [("delta", "3.1"), ("delta", "3.3")]
        delta = Delta.from_json(slow.data(2))
        assert (delta.base, [entry.user for entry in delta.upsert]) == ((3, 1), ["u-2", "u-3"])

    run(scenario)


def test_one_that_does_not_read_is_cut_off_after_its_time_and_not_before():
    async def scenario():
        streams, slow, quick = Streams(), Client(), Client()
        stalled, other = await streams.watch(slow, quick)
        slow.reads.clear()
        streams.trip("u-1")
        await until(lambda: len(quick.bodies) == 2)
        for _ in range(round(STALL_S / HEARTBEAT_S) - 1):
            await streams.pass_time(HEARTBEAT_S)
        assert not stalled.done()
        await streams.pass_time(HEARTBEAT_S)
        await until(stalled.done)
        assert stalled.exception() is None
        assert not slow.is_complete, "the server closes what is left unfinished"
        assert not other.done()
        await until(lambda: len(quick.heard) == 2 + STALL_S / HEARTBEAT_S)

    run(scenario)


def test_the_only_one_is_cut_off_too():
    async def scenario():
        streams, slow = Streams(), Client()
        (stalled,) = await streams.watch(slow)
        slow.reads.clear()
        before = streams.clock.waits
        streams.trip("u-1")
        await until(lambda: streams.clock.waits > before)
        await streams.pass_time(STALL_S)
        await until(stalled.done)
        await until(lambda: not streams.subscriptions)
        assert stalled.exception() is None

    run(scenario)


def test_each_has_a_heartbeat_after_2_s_whenever_it_came_and_whatever_changes():
    async def scenario():
        streams, first, second = Streams(), Client(), Client()
        await streams.watch(first)
        streams.clock.advance(HEARTBEAT_S / 2)
        await streams.watch(second)
        streams.trip("u-1")
        await until(lambda: len(first.bodies) == len(second.bodies) == 2)
        await streams.pass_time(HEARTBEAT_S / 2)
        await until(lambda: first.heard[2:] == [("heartbeat", "3.1")])
        assert [one[0] for one in second.heard] == ["snapshot", "delta"]
        await streams.pass_time(HEARTBEAT_S / 2)
        await until(lambda: second.heard[2:] == [("heartbeat", "3.1")])
        assert len(first.heard) == 3

    run(scenario)


def test_heartbeats_that_a_stall_made_due_together_are_spread_again():
    async def scenario():
        streams = Streams()
        clients = [Client() for _ in range(200)]
        await streams.watch(*clients)
        for looks in (1, 2, 3, 4):
            await streams.pass_time(3 * HEARTBEAT_S if looks == 1 else TICK_S)
            await asyncio.sleep(0)
            told = sum(len(client.bodies) == 2 for client in clients)
            assert told == min(64 * looks, len(clients))

    run(scenario)


def test_after_the_last_has_left_nothing_is_held_and_the_next_is_served():
    async def scenario():
        streams, client = Streams(), Client()
        for _ in range(2):
            client = Client()
            (served,) = await streams.watch(client)
            assert streams.subscriptions == 2
            client.left.set()
            await until(served.done)
            await until(lambda: not streams.subscriptions)

    run(scenario)


def test_one_that_leaves_while_it_does_not_read_is_forgotten_too():
    async def scenario():
        streams, client = Streams(), Client()
        (served,) = await streams.watch(client)
        client.reads.clear()
        streams.trip("u-1")
        client.left.set()
        client.reads.set()  # as a server does whose connection is lost
        await until(served.done)
        await until(lambda: not streams.subscriptions)

    run(scenario)


def test_closing_completes_every_stream_and_takes_no_more():
    async def scenario():
        streams, clients = Streams(), [Client(), Client()]
        served = await streams.watch(*clients)
        streams.hub.close()
        await until(lambda: all(one.done() for one in served))
        assert all(client.is_complete for client in clients)
        with pytest.raises(HubClosedError):
            await streams.connect(Client())

    run(scenario)


def test_one_without_the_token_is_not_served():
    async def scenario():
        streams, client = Streams(token="of the services"), Client()  # noqa: S106
        with pytest.raises(UnauthenticatedError):
            await streams.connect(client)
        assert not client.messages
        client.scope["headers"] = [(b"authorization", b"Bearer of the services")]
        await streams.watch(client)

    run(scenario)


def test_a_state_that_fails_ends_the_streams_is_logged_and_may_recover(monkeypatch, caplog):
    async def scenario():
        streams, client = Streams(), Client()
        (served,) = await streams.watch(client)
        with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
            broken.setattr(streams.breakers, "delta_since", lambda _base: 1 / 0)
            streams.trip("u-1")
            await until(served.done)
        assert "the breaker stream failed" in caplog.text
        again = Client(last="3.0")
        await streams.watch(again)
        assert again.heard == [("delta", "3.1")]

    run(scenario)


def test_a_change_while_others_are_told_of_one_reaches_all(monkeypatch):
    monkeypatch.setattr(fanout, "SLICE", 100)

    async def scenario():
        streams = Streams()
        clients = [Client() for _ in range(201)]
        await streams.watch(*clients)
        streams.trip("u-1")
        await until(lambda: len(clients[0].bodies) == 2)
        assert len(clients[-1].bodies) == 1
        streams.trip("u-2")
        await until(lambda: all(client.heard[-1][1] == "3.2" for client in clients))
        assert len(clients[0].heard) == 3
        assert clients[-1].heard == [("snapshot", "3.0"), ("delta", "3.2")]

    run(scenario)


def test_versions_that_nobody_knows_hold_nothing():
    streams = Streams()
    streams.trip("u-1")
    events = BreakerEvents(streams.breakers)
    whole = events.next(None)
    assert all(events.next(StateVersion(9, number)) is whole for number in range(50))
    assert events.next(StateVersion(3, 0))[0].startswith(b"event: delta\n")
    assert len(events._encoded) == 2
