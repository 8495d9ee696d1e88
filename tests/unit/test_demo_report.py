"""The demo's figures, from synthetic records whose figures are known."""

import pytest

from heatshield_stickershop.demo import report as reporting
from heatshield_stickershop.demo.events import Event
from heatshield_stickershop.demo.report import Run, expectations, report
from heatshield_stickershop.load import Sent
from heatshield_stickershop.platform import SERVICES
from heatshield_stickershop.population import HOT_USER

START_NS = 1_700_000_000 * 10**9
HOT_NS = START_NS + 10 * 10**9
MS = 10**6


def sent(due_ms, latency_ms=10.0, *, status=200, hot=False, rejected_by=None):
    """A request that was due that many ms after (or before) the hot user came."""
    user = HOT_USER if hot else "u-0001"
    return Sent(HOT_NS + due_ms * MS, latency_ms, status, user, hot, "purchase", rejected_by)


def event(name, at_ms, **data):
    return Event(name, {"at_ns": HOT_NS + at_ms * MS, **data})


def opening(at_ms=400, version="1.2", user=HOT_USER, **entry):
    entry = {"id": "b-1", "user": user, "service": "shop", "call": "POST /purchases"} | entry
    entry = {"mode": "pace"} | entry
    return event("breaker", at_ms, change="opened", entry=entry, version=version)


def escalation(at_ms=2_400, version="1.3"):
    entry = {"id": "b-1", "user": HOT_USER, "mode": "reject"}
    return event("breaker", at_ms, change="escalated", entry=entry, version=version)


def applied(service, at_ms, version="1.2", instance="i"):
    return event("applied", at_ms, service=service, instance=instance, applied=version)


def run(rows, events=(), mode="protect"):
    return Run(mode, rows, events, measured_from_ns=HOT_NS - 8_000 * MS, evidence_trace_id="abc")


def calm():
    """800 requests of 10 ms in the 8 s before the hot user, 1 % of them 20 ms."""
    return [sent(10 * n - 8_000, 20.0 if n % 100 == 0 else 10.0) for n in range(797)]


def busy(slow_until_ms, slow_ms=200.0, until_ms=6_000):
    """100 requests a second from the hot user's coming on, all slow until that moment."""
    return [sent(at, slow_ms if at < slow_until_ms else 10.0) for at in range(0, until_ms, 10)]


def test_a_percentile_is_a_value_that_was_measured_at_the_nearest_rank():
    assert reporting.percentile([4, 1, 3, 2], 0.5) == 2
    assert reporting.percentile(range(1, 101), 0.99) == 99
    assert reporting.percentile([7], 0.99) == 7
    assert reporting.percentile([], 0.99) is None


def test_before_leaves_out_the_warm_up_and_what_the_hot_user_could_still_delay():
    warm_up, measured, overlapping = sent(-9_000, 900.0), sent(-100, 50.0), sent(-100, 150.0)
    assert run([warm_up, measured, overlapping, sent(0, hot=True)]).before == [measured]


def test_during_is_the_whole_hot_phase_also_in_protect_and_leaves_the_hot_user_out():
    rows = [*calm(), *busy(500), sent(0, 5_000.0, hot=True)]
    found = report(run(rows, mode="shadow"), run(rows))
    for mode in ("shadow", "protect"):
        assert found[mode]["others_p99_ms_before"] == 20.0
        assert found[mode]["others_p99_ms_during"] == 200.0
        assert found[mode]["others_requests_during"] == 600


def test_an_error_is_a_5xx_or_no_answer_and_not_a_4xx():
    rows = [sent(0, hot=True), *(sent(1, status=status) for status in (200, 0, 403, 502))]
    assert report(run(rows), run(rows))["shadow"]["others_error_rate_during"] == 0.5


def test_detection_is_counted_from_the_first_hot_request_to_the_opening_of_his_breaker():
    rows = [sent(120, hot=True), sent(0, hot=True)]
    stranger = opening(100, user="u-0002")
    assert report(run(rows), run(rows, [stranger, opening(430)]))["protect"][
        "detected_after_s"
    ] == pytest.approx(0.43)


def test_enforced_everywhere_is_when_the_last_process_acknowledged_that_version_or_a_later_one():
    events = [
        opening(400, version="1.9"),
        applied("gateway", 410, "1.8"),  # an older state: not yet
        applied("gateway", 450, "1.10"),  # versions are numbers: 10 comes after 9
        applied("talk", 460, "1.9"),
        applied("capability", 470, "2.0"),
        applied("shop", 480, "1.9"),
        applied("shop", 900, "1.11"),  # acknowledging more later does not delay it
        applied("some-other-service", 2_000, "1.9"),
    ]
    assert reporting.enforced_everywhere_ns(events, events[0]) == HOT_NS + 480 * MS


@pytest.mark.parametrize("silent", SERVICES)
def test_it_is_not_enforced_everywhere_while_one_service_is_silent(silent):
    events = [opening(), *(applied(name, 500) for name in SERVICES if name != silent)]
    assert reporting.enforced_everywhere_ns(events, events[0]) is None


def test_it_is_not_enforced_everywhere_while_a_second_process_of_a_service_lags():
    lagging = event("instance", 10, service="shop", instance="second")
    events = [lagging, opening(), *(applied(name, 500) for name in SERVICES)]
    assert reporting.enforced_everywhere_ns(events, events[1]) is None
    events.append(applied("shop", 700, instance="second"))
    assert reporting.enforced_everywhere_ns(events, events[1]) == HOT_NS + 700 * MS


def test_after_enforcement_counts_only_what_was_due_once_running_purchases_had_drained():
    events = [opening(), *(applied(name, 600) for name in SERVICES)]
    rows = [*calm(), sent(0, hot=True), *busy(1_600)]
    protect = report(run(rows), run(rows, events))["protect"]
    assert protect["enforced_everywhere_after_s"] == 0.6
    assert protect["others_p99_ms_after_enforcement"] == 10.0
    assert protect["others_requests_after_enforcement"] == 440


def test_recovered_is_when_a_whole_second_of_ordinary_latencies_has_passed():
    assert reporting.recovered_after_s(run([*calm(), sent(0, hot=True), *busy(700)])) == (
        pytest.approx(1.65, abs=0.06)  # one slow request in a hundred is within a p99
    )


def test_others_who_never_recover_have_no_time_of_recovery():
    assert reporting.recovered_after_s(run([*calm(), sent(0, hot=True), *busy(9_999)])) is None


def test_others_who_never_suffered_have_recovered_at_once():
    assert reporting.recovered_after_s(run([*calm(), sent(0, hot=True), *busy(0)])) == 0.0


def test_rejections_are_counted_apart_for_the_hot_user_and_for_others():
    rows = [sent(0, hot=True), *(sent(n, hot=True, rejected_by="b-1") for n in range(1, 4))]
    rows += [sent(5, rejected_by="b-1"), sent(6)]
    protect = report(run(rows), run(rows))["protect"]
    assert (protect["hot_user_rejected"], protect["others_rejected"]) == (3, 1)


def test_evidence_is_taken_from_the_breaker_first_then_from_findings_about_the_hot_user():
    events = [
        event("finding", 300, user="u-0002", trace_ids=["other"]),
        event("finding", 310, user=HOT_USER, trace_ids=["f1", "e1"]),
        opening(evidence={"trace_ids": ["e1", "e2"]}),
        opening(500, service="gateway", evidence={"trace_ids": ["e3"]}),
    ]
    assert reporting.evidence_candidates(events) == ["e1", "e2", "e3", "f1"]


def met(shadow_rows, protect_rows, events):
    found = report(run(shadow_rows, mode="shadow"), run(protect_rows, events))
    return [one.met for one in expectations(found)]


def test_the_expectations_are_met_by_a_run_that_shows_the_story():
    events = [opening(), *(applied(name, 600) for name in SERVICES), escalation()]
    events += [applied(name, 2_600, "1.3") for name in SERVICES]
    hot = [sent(0, hot=True), sent(700, hot=True)]
    assert met([*calm(), *hot, *busy(9_999)], [*calm(), *hot, *busy(600)], events) == [True] * 5


@pytest.mark.parametrize(
    ("fails", "shadow_ms", "enforced_ms", "slow_until_ms", "rejected_by"),
    [
        (0, 99.0, 600, 600, None),
        (1, 200.0, 1_000, 1_000, None),
        (3, 200.0, 600, 9_999, None),
        (4, 200.0, 600, 600, "b-1"),
    ],
)
def test_each_expectation_can_fail_alone(fails, shadow_ms, enforced_ms, slow_until_ms, rejected_by):
    hot = sent(0, hot=True)
    events = [opening(), *(applied(name, enforced_ms) for name in SERVICES)]
    through = sent(700, hot=True)
    protect = [*calm(), hot, through, *busy(slow_until_ms), sent(5_000, rejected_by=rejected_by)]
    answer = met([*calm(), hot, *busy(9_999, shadow_ms)], protect, events)
    assert answer == [number != fails for number in range(5)]


def test_a_user_who_is_refused_at_once_was_not_slowed_first():
    events = [opening(mode="reject"), *(applied(name, 600) for name in SERVICES)]
    rows = [*calm(), sent(0, hot=True), sent(700, hot=True, status=503, rejected_by="b-1")]
    found = report(run(rows), run([*rows, *busy(600)], events))
    assert [one.met for one in expectations(found)][2] is False


def test_what_the_hot_user_gets_while_paced_and_after_is_counted_apart():
    events = [opening(), *(applied(name, 600) for name in SERVICES), escalation()]
    events += [applied(name, 2_600, "1.3") for name in SERVICES]
    rows = [sent(0, hot=True), sent(700, hot=True), sent(900, hot=True)]
    rows += [sent(920, hot=True, status=502)]
    rows += [sent(n, hot=True, status=429, rejected_by="b-1") for n in (950, 990)]
    rows += [sent(n, hot=True, status=503, rejected_by="b-1") for n in (2_500, 3_000, 3_500)]
    protect = report(run(rows), run([*calm(), *rows, *busy(3_000)], events))["protect"]
    assert protect["hot_user_paced_through"] == 2
    assert (protect["hot_user_told_to_wait"], protect["hot_user_rejected"]) == (2, 5)
    assert (protect["enforced_everywhere_after_s"], protect["refused_after_s"]) == (0.6, 2.4)
    assert protect["others_p99_ms_after_enforcement"] == 10.0


def test_others_who_are_told_to_wait_are_rejected_too():
    rows = [*calm(), sent(0, hot=True), sent(100, status=429), sent(200, status=403)]
    assert report(run(rows), run(rows))["protect"]["others_rejected"] == 1


def test_a_breaker_that_never_opened_is_reported_as_not_seen_and_fails():
    rows = [*calm(), sent(0, hot=True), *busy(9_999)]
    found = report(run(rows, mode="shadow"), run(rows))
    assert found["protect"]["detected_after_s"] is None
    assert found["protect"]["enforced_everywhere_after_s"] is None
    assert [one.met for one in expectations(found)] == [True, False, False, False, True]


def test_the_report_has_the_keys_that_scripts_rely_on():
    rows = [*calm(), sent(0, hot=True), *busy(500)]
    found = report(run(rows), run(rows))
    shared = {"others_p99_ms_before", "others_p99_ms_during", "others_error_rate_during"}
    assert shared <= found["shadow"].keys()
    protect = {
        "first_hot_request_at",
        "detected_after_s",
        "enforced_everywhere_after_s",
        "recovered_after_s",
        "hot_user_rejected",
        "others_rejected",
        "evidence_trace_id",
    }
    assert shared | protect <= found["protect"].keys()
    assert found["protect"]["first_hot_request_at"] == "2023-11-14T22:13:30+00:00"
