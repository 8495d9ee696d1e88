"""What every detector must fulfil, whatever it looks for.

A detector joins by a subclass with :meth:`DetectorSuite.make`; what it must find is trouble that
any of them can see: one user keeps half a service busy for seconds, in ordinary traffic.
"""

import time
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from charge_rows import Traffic, charge, charge_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import (
    COSTS,
    PANE_S,
    WINDOWS_S,
    Detection,
    Detector,
    Finding,
    Sources,
)
from heatshield_collector.link import Linked

START = Instant(1_000.0, 1_700_000_000 * 10**9)
CAPACITY = 8.0
BURNING = "burning"

Step = tuple[float, list[dict[str, Any]]]
"""Seconds before a batch, and its charges."""

rows = st.builds(
    charge,
    user=st.sampled_from([None, "a", "b", "unknown", "\x1f"]),
    busy_ms=st.sampled_from([0, 1, 20, 300, 2_000]),
    trace=st.integers(1, 40),
    service=st.sampled_from(["shop", "mail", ""]),
    call=st.sampled_from(["POST /p", "GET /"]),
    eligible=st.booleans(),
    transferred=st.booleans(),
)
streams = st.lists(
    st.tuples(st.sampled_from([0.0, PANE_S, 1.0, 30.0]), st.lists(rows, min_size=1, max_size=8)),
    min_size=1,
    max_size=12,
)
few = settings(
    max_examples=25,
    deadline=None,
    # Each subclass runs the same tests, with its own detector.
    suppress_health_check=[HealthCheck.differing_executors],
)


def after(instant: Instant, seconds: float) -> Instant:
    return Instant(instant.monotonic_s + seconds, instant.epoch_ns + round(seconds * 1e9))


def key_of(row: dict[str, Any]) -> CallKey:
    return CallKey(DEFAULT_TENANT, row["user"], row["service"], row["call"])


class DetectorSuite:
    """Runs against the detector that :meth:`make` makes."""

    def make(self, sources: Sources) -> Detector:
        """The detector, with the thresholds that it has of itself."""
        raise NotImplementedError

    def detection(self) -> Detection:
        """This detector alone, with the loads and evidence that it may draw on."""
        return Detection(lambda _: CAPACITY, None, lambda sources, _: [self.make(sources)], seed=3)

    def feed(self, detection: Detection, stream: Iterable[Step], start: Instant = START) -> Instant:
        """Hand a stream in; the moment at which it ends."""
        for pause_s, batch in stream:
            start = after(start, pause_s)
            urgent = detection.observe(Linked.of_charges(charge_table(batch)), start)
            assert isinstance(urgent, bool)
        return start

    def trouble(
        self, detection: Detection, start: Instant = START
    ) -> tuple[Instant, list[Finding]]:
        """Half a minute of ordinary traffic, then three seconds in which a user burns."""
        traffic, trace = Traffic(1.0, seed=3, users=50, rate=20.0, load=0.5), 10**6
        for charges in traffic.past(30):
            detection.observe(Linked.of_charges(charges), start)
            start = after(start, 10.0)
        for _ in range(round(3 / PANE_S)):
            burnt = [charge(BURNING, 50, trace=trace + at) for at in range(20)]
            trace += len(burnt)
            both = pa.concat_tables([traffic.requests(PANE_S), charge_table(burnt)])
            detection.observe(Linked.of_charges(both), start)
            start = after(start, PANE_S)
        return start, detection.evaluate(start)

    def test_it_finds_nothing_where_nothing_was(self) -> None:
        assert self.detection().evaluate(START) == []

    def test_it_names_the_user_who_burns_and_says_it_in_full(self) -> None:
        _, findings = self.trouble(self.detection())
        assert [one.key for one in findings] == [
            CallKey(DEFAULT_TENANT, BURNING, "shop", "POST /p")
        ]
        (finding,) = findings
        assert finding.klass
        assert finding.cost in COSTS
        assert finding.window in WINDOWS_S
        assert finding.load > 0.5
        assert finding.reason[-1].isalnum() or finding.reason[-1] == ")"

    def test_asked_again_at_one_moment_it_says_the_same(self) -> None:
        detection = self.detection()
        now, findings = self.trouble(detection)
        assert detection.evaluate(now) == findings
        assert detection.evaluate(now) == findings

    def test_it_looks_at_no_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what it finds depends on the moment that it is told of alone."""

        def none() -> float:
            raise AssertionError("a detector looked at a clock")

        for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"):
            monkeypatch.setattr(time, name, none)
        later = after(START, 10 * 86_400.0)
        said = [self.trouble(self.detection(), start)[1] for start in (START, later)]
        assert said[0] == said[1] != []

    def test_it_forgets(self) -> None:
        detection = self.detection()
        now, _ = self.trouble(detection)
        quiet = after(now, 3600.0)
        assert detection.evaluate(quiet) == []
        assert self.trouble(detection, quiet)[1] != []

    @few
    @given(streams)
    def test_it_names_only_what_it_was_shown_and_each_key_once(self, stream: list[Step]) -> None:
        detection, now = self.detection(), START
        shown: dict[CallKey, set[str]] = {}
        for step in stream:
            now = self.feed(detection, [step], now)
            for row in step[1]:
                shown.setdefault(key_of(row), set()).add(row["trace_id"].hex())
            findings = detection.evaluate(now)
            keys = [one.key for one in findings]
            assert len(set(keys)) == len(keys)
            for one in findings:
                assert one.key.user is not None
                assert set(one.trace_ids) <= shown[one.key]

    @few
    @given(streams)
    def test_being_asked_changes_nothing_that_it_finds_later(self, stream: list[Step]) -> None:
        often, once = self.detection(), self.detection()
        now = START
        for step in stream:
            now = self.feed(often, [step], now)
            often.evaluate(now)
            often.evaluate(now)
        assert self.feed(once, stream) == now
        later = after(now, PANE_S)
        assert often.evaluate(later) == once.evaluate(later)

    @few
    @given(streams, st.randoms(use_true_random=False))
    def test_the_order_within_a_batch_changes_nothing(self, stream: list[Step], dice: Any) -> None:
        shuffled = [(pause_s, dice.sample(batch, len(batch))) for pause_s, batch in stream]
        said = []
        for one in (stream, shuffled):
            detection = self.detection()
            now = self.feed(detection, one)
            said.append(sorted(map(repr, detection.evaluate(now))))
        assert said[0] == said[1]
