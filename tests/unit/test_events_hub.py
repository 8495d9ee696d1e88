"""The hub: order, bounds, who is cut off, and that publishing never waits."""

import asyncio
import itertools
import json
import threading

import pytest

from heatshield_collector.api.stream import encode_event
from heatshield_collector.events import EventHub, HubClosedError, Signal


def data_of(event: bytes):
    fields = dict(line.split(": ", 1) for line in event.decode().strip().splitlines())
    return int(fields["id"]), fields["event"], json.loads(fields["data"])


def test_an_event_is_written_as_one_message_on_one_line_of_data():
    event = encode_event("finding", {"reason": "two\nlines", "load": float("nan")}, "7")
    assert event.endswith(b"\n\n")
    assert set(event.decode().strip().splitlines()) == {
        "event: finding",
        'data: {"reason":"two\\nlines","load":null}',
        "id: 7",
    }


def test_subscribers_get_what_is_published_from_another_thread_in_order():
    async def scenario():
        hub = EventHub(encode_event)
        hub.publish("mode", {"missed": True})
        one, other = hub.subscribe(), hub.subscribe()
        publisher = threading.Thread(
            target=lambda: [hub.publish("finding", {"n": n}) for n in range(50)]
        )
        publisher.start()
        heard = [[data_of(await sub.next(5)) for _ in range(50)] for sub in (one, other)]
        publisher.join()
        return heard

    first, second = asyncio.run(scenario())
    assert first == second
    assert [row[1:] for row in first] == [("finding", {"n": n}) for n in range(50)]
    assert first[0][0] == 2, "what was published before has the first id, and no subscriber has it"
    assert all(a[0] < b[0] for a, b in itertools.pairwise(first))


def test_without_an_event_next_returns_none():
    async def scenario():
        subscription = EventHub(encode_event).subscribe()
        assert await subscription.next(0) is None
        assert not subscription.ended

    asyncio.run(scenario())


def test_who_falls_behind_is_cut_off_and_counted_and_holds_nothing():
    async def scenario():
        hub = EventHub(encode_event, queue_events=3)
        slow, quick = hub.subscribe(), hub.subscribe()
        for n in range(4):
            hub.publish("finding", {"n": n})
            assert data_of(await quick.next(1))[2] == {"n": n}
        assert (hub.cut_off, hub.subscribers) == (1, 1)
        assert slow.cut_off
        assert slow.ended
        assert await slow.next(1) is None

    asyncio.run(scenario())


def test_closing_gives_what_is_queued_then_ends_and_fires_closing():
    async def scenario():
        hub = EventHub(encode_event)
        fired = []
        hub.closing.subscribe(lambda: fired.append(True))
        subscription = hub.subscribe()
        hub.publish("mode", {})
        hub.close()
        assert not subscription.ended
        assert await subscription.next(1) is not None
        assert subscription.ended
        assert fired == [True]
        with pytest.raises(HubClosedError, match="shutting down"):
            hub.subscribe()

    asyncio.run(scenario())


def test_closing_wakes_who_waits():
    async def scenario():
        hub = EventHub(encode_event)
        subscription = hub.subscribe()
        waiting = asyncio.create_task(subscription.next(60))
        await asyncio.sleep(0)
        hub.close()
        assert await waiting is None
        assert subscription.ended

    asyncio.run(scenario())


def test_there_are_never_more_subscribers_than_allowed():
    async def scenario():
        hub = EventHub(encode_event, max_subscribers=1)
        first = hub.subscribe()
        with pytest.raises(HubClosedError, match="1 listen already"):
            hub.subscribe()
        first.close()
        hub.subscribe()

    asyncio.run(scenario())


def test_publishing_after_the_subscribers_loop_is_gone_is_harmless():
    hub = EventHub(encode_event)

    async def scenario():
        hub.subscribe()

    asyncio.run(scenario())
    hub.publish("mode", {})


def test_a_signal_wakes_everyone_until_they_unsubscribe():
    signal, woken = Signal(), []
    end_a = signal.subscribe(lambda: woken.append("a"))
    signal.subscribe(lambda: woken.append("b"))
    signal.fire()
    end_a()
    end_a()
    signal.fire()
    assert woken == ["a", "b", "b"]


def test_the_wake_of_an_event_that_was_taken_without_waiting_does_not_end_the_next_wait():
    """That wake arrives when the next wait has begun, and is no reason to answer `None`."""

    async def scenario():
        hub = EventHub(encode_event)
        subscription = hub.subscribe()
        loop = asyncio.get_running_loop()

        def publish_after(turns):
            if turns:
                loop.call_soon(publish_after, turns - 1)
            else:
                hub.publish("finding", {"n": 2})

        hub.publish("finding", {"n": 1})
        assert data_of(await subscription.next(5))[2] == {"n": 1}
        publish_after(5)
        assert data_of(await subscription.next(5))[2] == {"n": 2}

    asyncio.run(scenario())
