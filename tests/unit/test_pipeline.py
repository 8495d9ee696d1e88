"""The pipeline acknowledges nothing before it is durable, and answers every sender."""

import logging

import pytest
from export_requests import logs, metrics, traces
from running_pipeline import Rig

from heatshield_collector.intake.payload import (
    Accepted,
    MalformedError,
    OverloadedError,
)
from heatshield_collector.pipeline.commit import FULL_RETRY_S
from heatshield_collector.pipeline.group import BUSY_RETRY_S
from heatshield_collector.store import DuckDBStore, StoreError, StoreFullError

BAD = b"\x0a\xff\xff\xff\xff\x0fno export request"


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture(autouse=True)
def quiet_logs(caplog):
    """Failures here are meant."""
    caplog.set_level(logging.CRITICAL, "heatshield_collector.pipeline")


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


def test_metrics_are_stored_with_their_series_and_charging_does_not_wait_for_them(rig):
    """A batch of metrics takes ten milliseconds to decode; hot users are found before that."""
    order, decode = [], rig.decoders["metrics"]
    charge = rig.charges.charge

    def decoding(*arguments):
        order.append("decoded")
        return decode(*arguments)

    def charging(*arguments):
        order.append("charged")
        return charge(*arguments)

    rig.decoders["metrics"] = decoding
    rig.charges.charge = charging

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


def test_no_sender_is_answered_before_the_transaction_is_through(rig):
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


@pytest.mark.parametrize(
    ("error", "retry_s"),
    [
        (StoreError("x"), BUSY_RETRY_S),
        (StoreFullError("full"), FULL_RETRY_S),
        (RuntimeError("a surprise"), BUSY_RETRY_S),
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


def test_decoding_that_fails_in_an_unknown_way_is_our_fault_and_not_the_sender_s(rig):
    decode = rig.decoders["traces"]

    def broken(bodies, received_ns):
        raise RuntimeError("a bug")

    async def test():
        rig.decoders["traces"] = broken
        with pytest.raises(OverloadedError):
            await rig.submit(traces([1]))
        rig.decoders["traces"] = decode
        assert await rig.submit(traces([2])) == Accepted()

    rig.run(test)
    assert rig.store.rows() == [2]
