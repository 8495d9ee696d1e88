"""A stream of events cleans up after itself, however it ends."""

import asyncio
import threading

import pytest

from heatshield_collector.api.stream import EventStream, Waker
from heatshield_collector.events import Signal

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


async def endless():
    while True:
        yield b"event: x\n\n"


async def stays():
    await asyncio.Event().wait()


def run(response, receive, send):
    async def scenario():
        async with asyncio.timeout(5):
            await response(SCOPE, receive, send)

    asyncio.run(scenario())


def test_a_client_that_takes_nothing_is_given_up():
    ended = []

    async def send(message):
        if message["type"] == "http.response.body":
            await stays()

    run(EventStream(endless(), lambda: ended.append(True), stall_s=0.001), stays, send)
    assert ended == [True]


def test_a_client_that_leaves_ends_the_stream():
    ended = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(_message):
        await asyncio.sleep(0)

    run(EventStream(endless(), lambda: ended.append(True)), receive, send)
    assert ended == [True]


def test_events_that_end_complete_the_response():
    sent, ended = [], []

    async def two():
        yield b"1"
        yield b"2"

    async def send(message):
        sent.append(message)

    run(EventStream(two(), lambda: ended.append(True)), stays, send)
    assert [message.get("body") for message in sent] == [None, b"1", b"2", b""]
    assert sent[-1]["more_body"] is False
    assert dict(sent[0]["headers"])[b"cache-control"] == b"no-store"
    assert ended == [True]


def test_a_failing_source_is_not_hidden_and_still_cleans_up():
    ended = []

    async def broken():
        yield b"1"
        raise ValueError("boom")

    async def send(_message):
        pass

    with pytest.raises(ValueError, match="boom"):
        run(EventStream(broken(), lambda: ended.append(True)), stays, send)
    assert ended == [True]


def test_wakes_from_other_threads_that_come_together_count_as_one():
    async def scenario():
        signal = Signal()
        waker = Waker(signal.subscribe)
        thread = threading.Thread(target=lambda: [signal.fire() for _ in range(5)])
        thread.start()
        await asyncio.to_thread(thread.join)
        async with asyncio.timeout(5):
            await waker.wait(60)
        waiting = asyncio.create_task(waker.wait(60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        signal.fire()
        async with asyncio.timeout(5):
            await waiting
        waker.close()
        assert not signal._wakes

    asyncio.run(scenario())


def test_a_wait_that_nobody_ends_is_over_after_its_time():
    async def scenario():
        await Waker(Signal().subscribe).wait(0)

    asyncio.run(scenario())


def test_waking_after_the_loop_is_gone_is_harmless():
    signal = Signal()

    async def scenario():
        Waker(signal.subscribe)

    asyncio.run(scenario())
    signal.fire()
