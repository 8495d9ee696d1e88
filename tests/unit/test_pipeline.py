"""Group commit: nothing is acknowledged before it is durable, and nobody waits for ever."""

import asyncio
import logging
import threading
import time

import pytest
from export_requests import logs, metrics, traces

from heatshield.clock import Instant, SystemClock
from heatshield_collector.decode import decode_traces
from heatshield_collector.intake.payload import (
    Accepted,
    MalformedError,
    OverloadedError,
    Payload,
)
from heatshield_collector.link import Linker
from heatshield_collector.pipeline import commit
from heatshield_collector.pipeline.commit import CommitLoop
from heatshield_collector.store import DuckDBStore, StoreError, StoreFullError

BAD = b"\x0a\xff\xff\xff\xff\x0fno export request"
MIB = 2**20


class MemoryStore:
    """Keeps transactions; fails while it is told to; ``gate`` holds up who writes."""

    def __init__(self):
        self.transactions = []
        self.errors = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.on_append = lambda: None

    def append(self, tables):
        self.entered.set()
        assert self.gate.wait(30)
        self.on_append()
        if self.errors:
            raise self.errors.pop(0)
        self.transactions.append(tables)

    def rows(self, table="spans"):
        """Ids of what is stored, as numbers."""
        return sorted(
            int.from_bytes(row, "big")
            for tables in self.transactions
            for row in (tables[table].column("trace_id").to_pylist() if table in tables else [])
        )


class Charges:
    """Links for real; fails while it is told to."""

    def __init__(self):
        self.linker = Linker()
        self.error = None
        self.count_error = None
        self.counted = []

    def charged(self, spans, now_ns):
        if self.error:
            raise self.error
        return self.linker.link(spans, Instant(now_ns / 1e9, now_ns)).parts

    def idle(self):
        pass

    def committed(self, rows, seconds):
        if self.count_error:
            raise self.count_error
        assert seconds >= 0
        self.counted.append((rows.get("spans", 0), rows.get("logs", 0)))


class Rig:
    """A running loop over parts that can fail."""

    def __init__(self, store=None, queue_bytes=MIB):
        self.store = store or MemoryStore()
        self.charges = Charges()
        self.loop = CommitLoop(self.store, self.charges, SystemClock(), queue_bytes)

    def run(self, test):
        """Run a coroutine function beside the commit threads; they end with it."""
        self.loop.start()
        try:
            return asyncio.run(asyncio.wait_for(test(), 60))
        finally:
            if isinstance(self.store, MemoryStore):
                self.store.gate.set()
            self.loop.stop()
            assert not self.loop.alive
            assert self.loop.queued_bytes == 0

    def submit(self, body, signal="traces"):
        return asyncio.ensure_future(self.loop.submit(Payload(signal, body)))

    async def gathered(self, *tasks):
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture(autouse=True)
def quiet_logs(caplog):
    """Failures here are meant."""
    caplog.set_level(logging.CRITICAL, "heatshield_collector.pipeline.commit")


async def until(condition):
    """Leave the event loop to others until something holds."""

    def poll():
        while not condition():
            time.sleep(0.001)

    await asyncio.to_thread(poll)


def test_many_payloads_become_one_transaction_with_all_their_tables(rig):
    async def test():
        tasks = [rig.submit(traces([n])) for n in range(1, 9)] + [rig.submit(logs([9]), "logs")]
        assert await rig.gathered(*tasks) == [Accepted()] * 9

    rig.run(test)
    (tables,) = rig.store.transactions
    assert tables.keys() == {"spans", "logs", "resources", "request_parts"}
    assert rig.store.rows() == rig.store.rows("request_parts") == list(range(1, 9))
    assert rig.store.rows("logs") == [9]
    assert rig.charges.counted == [(8, 1)]


def test_metrics_are_stored_with_their_series_and_charging_does_not_wait_for_them(rig, monkeypatch):
    """A batch of metrics takes ten milliseconds to decode; who is hot is to be found at once."""
    order, decode = [], commit._DECODERS["metrics"]
    charged = rig.charges.charged

    def decoding(*arguments):
        order.append("decoded")
        return decode(*arguments)

    def charging(*arguments):
        order.append("charged")
        return charged(*arguments)

    monkeypatch.setitem(commit._DECODERS, "metrics", decoding)
    rig.charges.charged = charging

    async def test():
        tasks = [rig.submit(metrics([7]), "metrics"), rig.submit(traces([1]))]
        tasks.append(rig.submit(BAD, "metrics"))
        answers = await rig.gathered(*tasks)
        assert [type(answer) for answer in answers] == [Accepted, Accepted, MalformedError]

    rig.run(test)
    (tables,) = rig.store.transactions
    assert order[0] == "charged"
    assert tables["samples"].column("value").to_pylist() == [7]
    assert tables["samples"].column("series_id") == tables["series"].column("series_id")


def test_nobody_is_answered_before_the_transaction_is_through(rig):
    async def test():
        tasks = [rig.submit(traces([1])), rig.submit(logs([2]), "logs")]
        answered = []
        rig.store.on_append = lambda: answered.append([task.done() for task in tasks])
        await rig.gathered(*tasks)
        assert answered == [[False, False]]

    rig.run(test)


def test_of_a_joint_decode_only_the_bad_payload_is_refused(rig):
    async def test():
        bodies = [traces([1]), traces([2]), BAD, traces([3, 4])]
        tasks = [rig.submit(body) for body in bodies] + [rig.submit(BAD, "logs")]
        answers = await rig.gathered(*tasks)
        assert [type(answer) for answer in answers] == [
            Accepted, Accepted, MalformedError, Accepted, MalformedError,
        ]  # fmt: skip

    rig.run(test)
    assert rig.store.rows() == [1, 2, 3, 4]


def test_spans_with_impossible_ids_are_left_out_and_said_so(rig):
    async def test():
        first, second = await rig.gathered(rig.submit(traces([1, 0, 0])), rig.submit(traces([2])))
        assert (first.rejected, second.rejected) == (2, 0)
        assert "trace id" in first.reason

    rig.run(test)
    assert rig.store.rows() == [1, 2]


@pytest.mark.parametrize("body", [b"", traces([]), traces([0])])
def test_a_payload_without_a_single_span_is_accepted(rig, body):
    async def test():
        assert isinstance(await rig.submit(body), Accepted)

    rig.run(test)
    assert rig.store.rows() == []


def test_beyond_its_bytes_the_queue_refuses_and_takes_again_when_there_is_room(rig):
    body = traces(range(1, 50))
    small = Rig(queue_bytes=3 * len(body))

    async def test():
        small.store.gate.clear()
        taken = [small.submit(body) for _ in range(3)]
        await asyncio.sleep(0)  # they are in
        with pytest.raises(OverloadedError, match="queue is full") as refused:
            await small.submit(body)
        assert refused.value.retry_after_s == commit.BUSY_RETRY_S
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


@pytest.mark.parametrize(
    ("error", "retry_s"),
    [
        (StoreError("x"), commit.BUSY_RETRY_S),
        (StoreFullError("full"), commit.FULL_RETRY_S),
        (RuntimeError("a surprise"), commit.BUSY_RETRY_S),
    ],
)
def test_what_is_not_stored_is_not_acknowledged_and_the_loop_goes_on(rig, error, retry_s):
    async def test():
        rig.store.errors = [error]
        answers = await rig.gathered(rig.submit(traces([1])), rig.submit(logs([2]), "logs"))
        assert [type(answer) for answer in answers] == [OverloadedError] * 2
        assert answers[0].retry_after_s == retry_s
        assert await rig.submit(traces([3])) == Accepted()
        assert rig.loop.alive

    rig.run(test)
    assert rig.store.rows() == [3]
    assert rig.charges.counted == [(1, 0)]


def test_what_was_refused_for_the_disk_is_stored_when_it_comes_again(rig):
    """It has been charged, and is not again; but it is not lost."""

    async def test():
        rig.store.errors = [StoreError("x")]
        await rig.gathered(rig.submit(traces([1])))
        assert await rig.submit(traces([1])) == Accepted()

    rig.run(test)
    assert rig.store.rows() == rig.store.rows("request_parts") == [1]


def test_charging_that_fails_loses_no_span_and_no_request(tmp_path):
    store = DuckDBStore(tmp_path)
    rig = Rig(store)

    async def test():
        rig.charges.error = RuntimeError("a bug")
        assert await rig.submit(traces([1, 2])) == Accepted()
        rig.charges.error = None
        assert await rig.submit(traces([3])) == Accepted()

    rig.run(test)
    for number in (1, 2, 3):
        (found,) = store.spans_of(number.to_bytes(16, "big"))
        assert int.from_bytes(found["span_id"], "big") == number
    store.close()


def test_counting_that_fails_ends_nothing(rig):
    async def test():
        rig.charges.count_error = RuntimeError("a bug")
        for number in (1, 2):
            assert await rig.submit(traces([number])) == Accepted()
        assert rig.loop.alive

    rig.run(test)


def test_decoding_that_fails_in_an_unknown_way_is_ours_to_say_not_the_sender_s(rig, monkeypatch):
    def broken(bodies, now_ns):
        raise RuntimeError("a bug")

    async def test():
        monkeypatch.setitem(commit._DECODERS, "traces", broken)
        with pytest.raises(OverloadedError):
            await rig.submit(traces([1]))
        monkeypatch.setitem(commit._DECODERS, "traces", decode_traces)
        assert await rig.submit(traces([2])) == Accepted()

    rig.run(test)
    assert rig.store.rows() == [2]


def test_stopping_makes_durable_what_is_queued_and_takes_nothing_new(rig):
    async def test():
        rig.store.gate.clear()
        first = rig.submit(traces([1]))
        await asyncio.to_thread(rig.store.entered.wait, 30)
        tasks = [first, *(rig.submit(traces([number])) for number in range(2, 40))]
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(asyncio.to_thread(rig.loop.stop))
        await until(lambda: rig.loop._stopping)
        with pytest.raises(OverloadedError, match="shutting down"):
            await rig.submit(traces([99]))
        rig.store.gate.set()
        await stopping
        assert await rig.gathered(*tasks) == [Accepted()] * 39

    rig.run(test)
    assert rig.store.rows() == list(range(1, 40))


def test_who_hangs_up_disturbs_nobody(rig):
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


def test_senders_whose_event_loop_is_gone_disturb_nobody(rig):
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
    charge = rig.charges.charged
    rig.charges.charged = lambda spans, now_ns: charged.append(spans) or charge(spans, now_ns)

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
