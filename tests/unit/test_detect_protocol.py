"""Every detector fulfils the protocol, and a new one is a row."""

from dataclasses import replace

from charge_rows import charge, linked
from detector_suite import BURNING, CAPACITY, START, DetectorSuite, after
from plain_detector import PlainSums

from heatshield.declared_limit import DeclaredLimit, LimitPer, LimitUnit
from heatshield_collector.detect import Detection, HotRules, Loads, Sources, all_detectors
from heatshield_collector.detect.evidence import Evidence
from heatshield_collector.detect.harm.harmful_user import HarmfulUser
from heatshield_collector.detect.heavy_user import HeavyUser
from heatshield_collector.detect.hot_user import HotUser
from heatshield_collector.detect.over_budget import OverBudget


class TestHotUser(DetectorSuite):
    def make(self, sources):
        return HotUser(sources, HotRules())


class TestHeavyUser(DetectorSuite):
    def make(self, sources):
        return HeavyUser(sources)


class TestOverBudget(DetectorSuite):
    def make(self, sources):
        limit = DeclaredLimit("busy", LimitPer.USER_CALL, LimitUnit.BUSY, rate_per_s=0.08)
        return OverBudget(replace(sources, limits=lambda: (limit,)))


class TestHarmfulUser(DetectorSuite):
    """Others must be harmed, so its trouble is one Redis for all."""

    def make(self, sources):
        return HarmfulUser(sources)

    def trouble(self, detection, start=START):
        now = start
        for number in range(120):
            detection.observe(linked(on_redis(f"u-{number % 9}", 1, now, number)), now)
            now = after(now, 1.0)
        for number in range(12):
            rows = [on_redis(BURNING, 80, now, 10**6 + 3 * number + at)[0] for at in range(3)]
            rows += [on_redis(f"u-{at}", 200, now, 10**7 + 9 * number + at)[0] for at in range(9)]
            detection.observe(linked(in_a_line(rows, now)), now)
            found = detection.evaluate(now)
            now = after(now, 0.25)
        return after(now, -0.25), found


def on_redis(user, took_ms, now, trace):
    end_ns = now.epoch_ns
    return [
        charge(
            user,
            took_ms,
            trace=trace + 1,
            backend="redis",
            address="r:6379",
            start_ns=end_ns - took_ms * 10**6,
            duration_ns=took_ms * 10**6,
        )
    ]


def in_a_line(rows, now):
    """The same, served one after the other: the burner's for 80 ms each, the others' at once."""
    end_ns = now.epoch_ns - 250 * 10**6
    for row in rows:
        end_ns += 80 * 10**6 if row["user"] == BURNING else 10**6
        row["start_ns"] = end_ns - row["duration_ns"]
    return rows


class TestPlainSums(DetectorSuite):
    """The second implementation: it shares nothing with those of the collector."""

    def make(self, sources):
        return PlainSums(sources.capacity)


SUITES = (TestHarmfulUser, TestHotUser, TestHeavyUser, TestOverBudget, TestPlainSums)


def test_every_detector_of_the_collector_is_judged_here():
    sources, rules = Sources(Loads(), Evidence(), lambda _: CAPACITY), HotRules()
    judged = {type(suite().make(sources)) for suite in SUITES}
    assert {type(one) for one in all_detectors(sources, rules)} <= judged


class Urgent:
    """Wants to be asked at once, and finds nothing."""

    def observe(self, linked, instant):  # noqa: ARG002 - of the protocol
        return True

    def evaluate(self, instant):  # noqa: ARG002 - of the protocol
        return []


def test_another_detector_is_one_more_row_and_its_findings_stand_where_the_row_does():
    detection = Detection(
        lambda _: CAPACITY,
        detectors=lambda sources, rules: [
            PlainSums(sources.capacity),
            *all_detectors(sources, rules),
        ],
    )
    rows = [charge("u", 3_000, trace=trace) for trace in range(1, 10)]
    assert detection.observe(linked(rows), START)
    assert [one.klass for one in detection.evaluate(START)] == ["plain", "hot", "heavy"]


def test_one_detector_in_a_hurry_is_enough_and_every_one_is_told_nonetheless():
    plain = PlainSums(lambda _: CAPACITY)
    detection = Detection(lambda _: CAPACITY, detectors=lambda *_: [Urgent(), plain])
    assert detection.observe(linked([charge("u", 9_000)]), START)
    assert [one.key.user for one in plain.evaluate(START)] == ["u"]


def test_a_batch_without_charges_is_no_reason_for_anything():
    detection = Detection(lambda _: CAPACITY, detectors=lambda *_: [Urgent()])
    assert not detection.observe(linked([]), START)
