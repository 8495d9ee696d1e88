"""The pipeline's threads: a bounded queue, a slow disk, senders that go away, the end."""

import asyncio
import logging
import time

import pytest
from export_requests import traces
from running_pipeline import Rig, until

from heatshield_collector.intake.payload import (
    Accepted,
    OverloadedError,
)
from heatshield_collector.pipeline.group import BUSY_RETRY_S

BAD = b"\x0a\xff\xff\xff\xff\x0fno export request"


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture(autouse=True)
def quiet_logs(caplog):
    """Failures here are meant."""
    caplog.set_level(logging.CRITICAL, "heatshield_collector.pipeline")


def test_beyond_its_bytes_the_queue_refuses_and_takes_again_when_there_is_room(rig):
    body = traces(range(1, 50))
    small = Rig(queue_bytes=3 * len(body))

    async def test():
        small.store.gate.clear()
        taken = [small.submit(body) for _ in range(3)]
        await asyncio.sleep(0)  # they are in
        with pytest.raises(OverloadedError, match="queue is full") as refused:
            await small.submit(body)
        assert refused.value.retry_after_s == BUSY_RETRY_S
        assert small.loop.queued_bytes == 3 * len(body)
        small.store.gate.set()
        assert await small.gathered(*taken) == [Accepted()] * 3
        assert await small.submit(body) == Accepted()

    small.run(test)


def test_what_waits_for_the_disk_still_counts_as_queued(rig):
    """Decoded or not: a slow disk must not let the memory grow."""
    body = traces(range(1, 50))
    small = Rig(queue_bytes=2 * len(body))

    async def test():
        small.store.gate.clear()
        task = small.submit(body)
        await asyncio.to_thread(small.store.entered.wait, 30)
        second = small.submit(body)
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await small.submit(body)
        small.store.gate.set()
        assert await small.gathered(task, second) == [Accepted()] * 2

    small.run(test)


def test_an_empty_queue_takes_a_payload_larger_than_itself():
    small = Rig(queue_bytes=10)

    async def test():
        assert await small.submit(traces(range(1, 50))) == Accepted()

    small.run(test)


def test_stopping_makes_durable_what_is_queued_and_takes_nothing_new(rig):
    async def test():
        rig.store.gate.clear()
        first = rig.submit(traces([1]))
        await asyncio.to_thread(rig.store.entered.wait, 30)
        tasks = [first, *(rig.submit(traces([number])) for number in range(2, 40))]
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(asyncio.to_thread(rig.loop.stop))
        await until(lambda: rig.loop._gathered._closed)
        with pytest.raises(OverloadedError, match="shutting down"):
            await rig.submit(traces([99]))
        rig.store.gate.set()
        await stopping
        assert await rig.gathered(*tasks) == [Accepted()] * 39

    rig.run(test)
    assert rig.store.rows() == list(range(1, 40))


def test_a_sender_that_hangs_up_disturbs_no_other(rig):
    async def test():
        rig.store.gate.clear()
        gone, stays = rig.submit(traces([1])), rig.submit(traces([2]))
        await asyncio.to_thread(rig.store.entered.wait, 30)
        gone.cancel()
        rig.store.gate.set()
        assert await stays == Accepted()
        assert gone.cancelled()

    rig.run(test)
    assert rig.store.rows() == [1, 2]


def test_senders_whose_event_loop_is_gone_disturb_no_other(rig):
    async def leave():
        rig.store.gate.clear()
        rig.submit(traces([1]))
        await asyncio.to_thread(rig.store.entered.wait, 30)

    async def test():
        assert await rig.submit(traces([2])) == Accepted()

    rig.loop.start()
    asyncio.run(leave())
    rig.store.gate.set()
    rig.loop.start = lambda: None
    rig.run(test)
    assert rig.store.rows() == [1, 2]


def test_groups_that_pile_up_behind_the_disk_are_written_together(rig):
    async def test():
        rig.store.gate.clear()
        first = rig.submit(traces([1]))
        await asyncio.to_thread(rig.store.entered.wait, 30)
        rest = []
        for number in (2, 3):
            rest.append(rig.submit(traces([number])))
            await until(lambda ahead=number - 1: rig.loop._groups.qsize() >= ahead)
        rig.store.gate.set()
        assert await rig.gathered(first, *rest) == [Accepted()] * 3

    rig.run(test)
    assert len(rig.store.transactions) == 2
    assert rig.store.rows() == [1, 2, 3]


def test_charging_goes_on_while_the_disk_stands_still(rig):
    """While the store folds its log, for a second or more, hot users must be found."""
    charged = []
    charge = rig.charges.charge
    rig.charges.charge = lambda spans, now: charged.append(spans) or charge(spans, now)

    async def test():
        rig.store.gate.clear()
        tasks = []
        for number in range(1, 9):
            tasks.append(rig.submit(traces([number])))
            deadline = time.monotonic() + 10
            while len(charged) < number:
                assert time.monotonic() < deadline, "charging waits for the disk"
                await asyncio.sleep(0.001)
        assert not any(task.done() for task in tasks)
        rig.store.gate.set()
        assert await rig.gathered(*tasks) == [Accepted()] * 8

    rig.run(test)
    assert rig.store.rows() == list(range(1, 9))
