"""Who is over a declared limit, and who is not: bursts, pauses, other users, other limits."""

import pytest
from charge_rows import charge, linked

from heatshield.clock import Instant
from heatshield.declared_limit import DeclaredLimit, LimitPer, LimitUnit
from heatshield_collector.detect import Detection
from heatshield_collector.detect.over_budget import OverBudget

S = 10**9


def limit(per=LimitPer.USER, unit=LimitUnit.REQUESTS, rate_per_s=10.0, **more):
    return DeclaredLimit("per-user", per, unit, rate_per_s, **more)


def found(*limits, seconds=60, per_s=20, user="u-1", **columns):
    """Who is over a limit after so many seconds of so many calls of 1 ms a second."""
    detection = Detection(
        lambda _: 8.0, None, lambda sources, _: [OverBudget(sources)], limits=lambda: limits
    )
    now = Instant(1_000.0, 10**18)
    for second in range(seconds):
        now = Instant(1_000.0 + second, 10**18 + second * S)
        rows = [charge(user, 1, trace=1 + second * per_s + n, **columns) for n in range(per_s)]
        detection.observe(linked([*rows, charge("u-2", 1)]), now)
    return detection.evaluate(now)


def test_a_user_who_does_twice_what_is_allowed_is_named_with_the_limit():
    (finding,) = found(limit())
    assert (finding.klass, finding.key.user, finding.action) == ("budget", "u-1", "none")
    assert finding.load == pytest.approx(20.0, rel=0.05)
    assert finding.thresholds == {"rate_per_s": 10.0, "burst": 0.0}
    assert finding.reason.startswith("u-1 has asked shop for ")
    assert "the limit `per-user` is 10" in finding.reason


def test_a_user_who_keeps_the_limit_is_not_named_however_long():
    assert found(limit(), per_s=9, seconds=200) == []


def test_a_burst_is_no_news_and_neither_is_what_has_ended():
    assert found(limit(burst=300.0), seconds=14) == []
    assert found(limit(), seconds=10) == []
    detection = Detection(
        lambda _: 8.0, None, lambda sources, _: [OverBudget(sources)], limits=lambda: (limit(),)
    )
    rows = [charge("u-1", 1, trace=n) for n in range(1, 1_500)]
    detection.observe(linked(rows), Instant(1_000.0, 10**18))
    assert len(detection.evaluate(Instant(1_001.0, 10**18))) == 1
    assert detection.evaluate(Instant(1_020.0, 10**18)) == []


@pytest.mark.parametrize(
    "other",
    [
        limit(service="talk"), limit(call="GET /q"), limit(user="u-2"), limit(LimitPer.CALL),
        limit(LimitPer.TENANT), limit(unit=LimitUnit.BYTES), limit(unit=LimitUnit.BUSY),
    ],
)  # fmt: skip
def test_limits_on_something_else_name_nobody(other):
    assert found(other) == []


def test_calls_of_several_operations_count_together_for_a_user_and_apart_for_a_call():
    detections = {}
    for per in (LimitPer.USER, LimitPer.USER_CALL):
        detections[per] = Detection(
            lambda _: 8.0, None, lambda sources, _: [OverBudget(sources)],
            limits=lambda per=per: (limit(per),),
        )  # fmt: skip
    for second in range(60):
        now = Instant(1_000.0 + second, 10**18)
        calls = [("GET /a", 7), ("GET /b", 6)]
        rows = [charge("u-1", 1, call=call, trace=n + 1) for call, count in calls
                for n in range(count)]  # fmt: skip
        for detection in detections.values():
            detection.observe(linked(rows), now)
    (finding,) = detections[LimitPer.USER].evaluate(now)
    assert finding.key.call == "GET /a", "the call that has the most of it"
    assert detections[LimitPer.USER_CALL].evaluate(now) == []


def test_elements_and_busy_seconds_are_counted_too():
    (finding,) = found(limit(unit=LimitUnit.ELEMENTS, rate_per_s=1_000.0), elements=500)
    assert (finding.cost, finding.load) == ("elements", pytest.approx(10_000, rel=0.05))
    (finding,) = found(limit(unit=LimitUnit.BUSY, rate_per_s=0.01))
    assert finding.reason.count("busy seconds a second") == 1


def test_requests_of_nobody_have_no_budget():
    assert found(limit(), user=None) == []


def test_of_two_limits_the_one_that_is_missed_most_is_told():
    (finding,) = found(limit(), limit(LimitPer.USER_CALL, rate_per_s=2.0))
    assert finding.thresholds["rate_per_s"] == 2.0
