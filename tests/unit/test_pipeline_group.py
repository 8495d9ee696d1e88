"""One group at a time on virtual time: any ack, any format, and one stamp for a group."""

import pytest
from export_requests import logs, metrics, traces
from recording_ack import RecordingAck
from span_lines import SPAN_LINES, span_lines

from heatshield.clock import ManualClock
from heatshield_collector.intake.formats import FORMATS
from heatshield_collector.intake.payload import (
    Accepted,
    MalformedError,
    OverloadedError,
    Payload,
    UnsupportedError,
)
from heatshield_collector.link import Linker
from heatshield_collector.pipeline import Pipeline
from heatshield_collector.store import StoreFullError

BAD = b"\x0a\xff\xff\xff\xff\x0fno export request"
LINE = {"trace": 9, "span": 9, "service": "s", "name": "n", "start_ns": 1, "end_ns": 2}


class Rig:
    """A pipeline on this thread; time passes while it decodes, charges and stores."""

    def __init__(self):
        self.clock = ManualClock()
        self.linker = Linker()
        self.transactions, self.charged, self.waited_s = [], [], []
        self.error = None
        self.pipeline = Pipeline(self, self, [*FORMATS, SPAN_LINES], self.clock, 2**20)

    def append(self, tables):
        if self.error:
            raise self.error
        self.clock.advance(0.3)
        self.transactions.append(tables)

    def charge(self, spans, now):
        self.clock.advance(0.1)
        self.charged.append((now, spans.num_rows))
        return self.linker.link(spans, now).parts

    def settle(self, _now):
        raise AssertionError("payloads have come")

    def not_stored(self, spans):
        self.linker.not_stored(spans)

    def committed(self, _rows, seconds):
        self.waited_s.append(seconds)

    def offer(self, body, signal="traces", **more):
        ack = RecordingAck()
        self.pipeline.offer(Payload(signal, body, **more), ack)
        return ack


@pytest.fixture
def rig():
    return Rig()


def test_nothing_happens_before_the_group_is_run(rig):
    ack = rig.offer(traces([1]))
    assert (ack.answers, rig.transactions) == ([], [])
    assert rig.pipeline.run_group() == 1
    assert ack.answers == [Accepted()]
    assert rig.pipeline.queued_bytes == 0
    assert rig.pipeline.run_group() == 0
    assert len(rig.transactions) == 1


def test_a_group_is_stamped_once_and_all_of_it_happens_then(rig):
    rig.offer(traces([1]))
    rig.clock.advance(1.0)
    rig.offer(span_lines(LINE), format="span-lines")
    rig.offer(logs([2]), "logs")
    rig.offer(metrics([3]), "metrics")
    now = rig.clock.now()
    rig.pipeline.run_group()
    (tables,) = rig.transactions
    assert rig.charged == [(now, 2)]
    for name in ("spans", "logs", "samples", "request_parts"):
        assert set(tables[name].column("received_ns").to_pylist()) == {now.epoch_ns}, name
    assert rig.waited_s == [pytest.approx(1.4)]


def test_every_ack_is_settled_once_whatever_becomes_of_its_payload(rig):
    acks = [
        rig.offer(traces([1])),
        rig.offer(BAD),
        rig.offer(span_lines(LINE, LINE | {"trace": 0}), format="span-lines"),
        rig.offer(b"[]\n", format="span-lines"),
        rig.offer(BAD, "logs"),
    ]
    rig.pipeline.run_group()
    assert [[type(answer) for answer in ack.answers] for ack in acks] == [
        [Accepted], [MalformedError], [Accepted], [MalformedError], [MalformedError],
    ]  # fmt: skip
    assert acks[2].answers == [Accepted(1, SPAN_LINES.left_out)]
    assert rig.transactions[0]["spans"].num_rows == 2


def test_a_disk_that_is_full_refuses_the_group_and_the_next_one_is_stored(rig):
    rig.error = StoreFullError("full")
    refused = rig.offer(traces([1]))
    rig.pipeline.run_group()
    (answer,) = refused.answers
    assert isinstance(answer, OverloadedError)
    rig.error = None
    accepted = rig.offer(traces([1]))
    rig.pipeline.run_group()
    assert accepted.answers == [Accepted()]
    assert rig.pipeline.queued_bytes == 0
    (stored,) = rig.transactions
    assert stored["request_parts"].column("spans").to_pylist() == [1]


@pytest.mark.parametrize(("form", "signal"), [("zipkin", "traces"), ("span-lines", "logs")])
def test_a_format_that_is_not_known_is_refused_when_it_is_offered(rig, form, signal):
    with pytest.raises(UnsupportedError, match=form):
        rig.offer(b"", signal, format=form)
    assert rig.pipeline.queued_bytes == rig.pipeline.run_group() == 0


def test_the_same_payloads_at_the_same_times_give_the_same_rows():
    def run():
        rig = Rig()
        for number in range(1, 4):
            rig.offer(traces([number, number + 1]))
            rig.clock.advance(0.2)
            rig.pipeline.run_group()
        return [
            {name: table.to_pydict() for name, table in one.items()} for one in rig.transactions
        ]

    assert run() == run()
