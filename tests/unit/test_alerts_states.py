"""The alert machine, step by step, over chosen histories."""

import pytest
from moments import EPOCH_S, at

from heatshield.clock import ManualClock
from heatshield_alerts import (
    InstantSamples,
    Labels,
    Matcher,
    MatchKind,
    Point,
    RuleRunner,
    Sample,
    load_text,
    parse,
)
from heatshield_alerts.promql import EvaluationError
from heatshield_alerts.rules import AlertRule, AlertState, RuleTracker
from heatshield_alerts.rules import track as track_module
from heatshield_alerts.rules.state import RESOLVED_KEPT_S, TRANSITIONS, Alert, AlertEvent, step
from heatshield_alerts.rules.template import Template
from heatshield_alerts.rules.track import UNEVALUATED_KEPT_S


def rule(**fields) -> AlertRule:
    return AlertRule("Hot", parse("load > 0"), **fields)


def hot(user: str = "u-1", value: float = 1.0) -> Sample:
    return Sample.of("load", {"user": user}, value)


def states(tracker: RuleTracker, vector: list[Sample], seconds: float) -> list[str]:
    return [
        f"{moved.before.value}→{moved.alert.state.value}"
        for moved in tracker.evaluate(vector, at(seconds))
    ]


def test_without_for_it_fires_in_the_evaluation_that_finds_it():
    tracker = RuleTracker(rule())
    assert states(tracker, [hot()], 10.0) == ["inactive→pending", "pending→firing"]
    (alert,) = tracker.alerts
    assert (alert.active_at, alert.fired_at, alert.value) == (at(10.0), at(10.0), 1.0)
    assert alert.labels == Labels({"alertname": "Hot", "user": "u-1"})


def test_with_for_it_fires_once_it_held_that_long():
    tracker = RuleTracker(rule(for_s=1.0))
    assert states(tracker, [hot()], 10.0) == ["inactive→pending"]
    assert states(tracker, [hot()], 10.75) == []
    assert states(tracker, [hot()], 11.0) == ["pending→firing"]


def test_a_gap_while_pending_starts_it_anew():
    tracker = RuleTracker(rule(for_s=1.0))
    states(tracker, [hot()], 10.0)
    assert states(tracker, [], 10.5) == ["pending→inactive"]
    assert tracker.alerts == ()
    assert states(tracker, [hot()], 11.0) == ["inactive→pending"]


def test_keep_firing_for_bridges_a_gap_and_counts_from_its_start():
    tracker = RuleTracker(rule(keep_firing_for_s=5.0))
    states(tracker, [hot()], 10.0)
    assert states(tracker, [], 11.0) == []
    assert states(tracker, [], 15.75) == []
    assert states(tracker, [hot()], 15.9) == []
    assert states(tracker, [], 16.0) == []
    assert states(tracker, [], 20.75) == []
    assert tracker.alerts[0].missing_since == at(16.0)
    assert states(tracker, [], 21.0) == ["firing→resolved"]
    assert tracker.alerts[0].missing_since is None


def test_resolved_is_kept_a_while_then_forgotten():
    tracker = RuleTracker(rule())
    states(tracker, [hot()], 10.0)
    assert states(tracker, [], 11.0) == ["firing→resolved"]
    assert states(tracker, [], 11.0 + RESOLVED_KEPT_S) == []
    assert states(tracker, [], 11.5 + RESOLVED_KEPT_S) == ["resolved→inactive"]
    assert tracker.alerts == ()


def test_a_new_outbreak_after_resolved_must_hold_again():
    tracker = RuleTracker(rule(for_s=1.0))
    states(tracker, [hot()], 10.0)
    states(tracker, [hot()], 11.0)
    states(tracker, [], 12.0)
    assert states(tracker, [hot()], 13.0) == ["resolved→pending"]
    (alert,) = tracker.alerts
    assert (alert.active_at, alert.fired_at, alert.resolved_at) == (at(13.0), None, None)


def test_each_label_set_is_its_own_alert():
    tracker = RuleTracker(rule())
    states(tracker, [hot("u-1"), hot("u-2")], 10.0)
    assert states(tracker, [hot("u-2", 3.0)], 11.0) == ["firing→resolved"]
    by_user = {alert.labels["user"]: alert for alert in tracker.alerts}
    assert by_user["u-1"].state is AlertState.RESOLVED
    assert by_user["u-2"].value == 3.0


def test_labels_and_annotations_are_rendered_from_the_series():
    tracker = RuleTracker(
        rule(
            labels={"severity": Template("page"), "user": Template("<{{ $labels.user }}>")},
            annotations={"summary": Template("{{ $labels.user }} at {{ $value }}")},
        )
    )
    tracker.evaluate([hot(value=2.0)], at(10.0))
    tracker.evaluate([hot(value=3.0)], at(10.25))
    (alert,) = tracker.alerts
    assert dict(alert.labels) == {"alertname": "Hot", "severity": "page", "user": "<u-1>"}
    assert alert.annotations == {"summary": "u-1 at 3"}
    assert alert.to_json()["active_at_ns"] == EPOCH_S * 10**9 + 10_000_000_000


def test_series_that_make_one_alert_are_a_problem_and_do_not_silence_the_others():
    tracker = RuleTracker(rule())
    twice = [hot("u-1", 2.0), hot("u-1", 5.0), hot("u-1", 3.0)]
    steps = states(tracker, [*twice, hot("u-2")], 10.0)
    assert steps == ["inactive→pending", "pending→firing"] * 2
    assert {alert.labels["user"]: alert.value for alert in tracker.alerts} == {
        "u-1": 5.0,
        "u-2": hot().value,
    }
    assert "several series make one alert" in tracker.problem
    tracker.evaluate([hot("u-1")], at(11.0))
    assert tracker.problem == ""


def test_the_alerts_of_a_rule_that_goes_on_failing_end_after_four_minutes():
    tracker = RuleTracker(rule())
    tracker.evaluate([hot("u-1")], at(10.0))
    assert tracker.fail("broken", at(10.25)) == []
    assert tracker.fail("broken", at(10.0 + UNEVALUATED_KEPT_S - 0.25)) == []
    (ended,) = tracker.fail("broken", at(10.0 + UNEVALUATED_KEPT_S))
    assert ended.alert.state is AlertState.RESOLVED
    assert tracker.fail("broken", at(11.0 + UNEVALUATED_KEPT_S)) == []


def test_more_alerts_than_the_limit_are_an_error_that_changes_nothing():
    tracker = RuleTracker(rule(limit=1))
    tracker.evaluate([hot("u-1")], at(10.0))
    with pytest.raises(EvaluationError, match="limit is 1"):
        tracker.evaluate([hot("u-1"), hot("u-2")], at(11.0))
    assert len(tracker.alerts) == 1


def test_resolved_alerts_are_bounded_and_the_newest_stay(monkeypatch):
    monkeypatch.setattr(track_module, "MAX_RESOLVED", 3)
    tracker = RuleTracker(rule())
    for n in range(10):
        tracker.evaluate([hot(f"u-{n}")], at(float(n)))
    kept = [a.labels["user"] for a in tracker.alerts if a.state is AlertState.RESOLVED]
    assert kept == ["u-6", "u-7", "u-8"]


def test_what_the_table_does_not_have_raises():
    alert = Alert("Hot", Labels(), AlertState.PENDING, 1.0)
    for event in AlertEvent:
        if event in TRANSITIONS[AlertState.PENDING]:
            step(alert, event, at(0.0))
        else:
            with pytest.raises(KeyError):
                step(alert, event, at(0.0))


RULES = """
groups:
  - name: fast
    interval: 250ms
    rules:
      - {alert: Broken, expr: "a + on(x) b"}
      - {alert: Fine, expr: "a > 0"}
  - name: slow
    interval: 1s
    rules: [{alert: Slow, expr: "a > 0"}]
"""


def test_a_rule_that_fails_is_reported_and_the_others_go_on():
    runner = RuleRunner(load_text(RULES))
    source = InstantSamples(
        [
            Sample.of("a", {"n": "1"}, 1),
            Sample.of("b", {"n": "1"}, 1),
            Sample.of("b", {"n": "2"}, 1),
        ]
    )
    done = runner.evaluate(source, at(0.0))
    assert [(row.group, row.rule) for row in done.failures] == [("fast", "Broken")]
    assert runner.failing == done.failures
    assert {alert.rule for alert in runner.firing} == {"Fine", "Slow"}


BREAKABLE = """
groups:
  - name: g
    interval: 250ms
    rules: [{alert: A, expr: "a and on (x) a"}]
"""


def test_an_alert_acts_only_in_a_round_that_evaluated_its_rule():
    runner = RuleRunner(load_text(BREAKABLE))
    good = InstantSamples([Sample.of("a", {"x": "1"}, 1)])

    class Broken(InstantSamples):
        def select(self, *_):
            raise ZeroDivisionError("no such thing")

    assert [one.rule for one in runner.evaluate(good, at(0.0)).acting] == ["A"]
    assert runner.evaluate(good, at(0.1)).acting == (), "not due"
    failed = runner.evaluate(Broken([]), at(0.25))
    assert (failed.acting, [one.error for one in failed.failures]) == ((), ["no such thing"])
    again = runner.evaluate(Broken([]), at(0.5))
    assert [one.since for one in again.failures] == [at(0.25)]
    assert [one.rule for one in runner.firing] == ["A"]
    assert [one.rule for one in runner.evaluate(good, at(0.75)).acting] == ["A"]
    assert runner.failing == ()


def test_each_group_is_evaluated_at_its_own_interval():
    runner = RuleRunner(load_text(RULES))
    source, resolved_at = InstantSamples([Sample.of("a", {}, 1)]), {}
    runner.evaluate(source, at(0.0))
    for tick in range(1, 9):
        for moved in runner.evaluate(InstantSamples([]), at(tick * 0.25)).transitions:
            resolved_at[moved.alert.rule] = moved.at.monotonic_s
    assert resolved_at == {"Fine": 0.25, "Slow": 1.0}


def test_a_late_round_does_not_make_up_for_the_missed_ones():
    runner = RuleRunner(
        load_text("groups: [{name: g, interval: 1s, rules: [{alert: A, expr: 1}]}]")
    )
    calls = []
    runner._evaluator = type(
        "E", (), {"vector": lambda _self, _expression, _source, at_s: calls.append(at_s) or []}
    )()
    for at_s in (0.0, 0.5, 3.7, 3.8, 4.0, 4.1):
        runner.evaluate(InstantSamples([]), at(at_s))
    assert [round(at_s - EPOCH_S, 3) for at_s in calls] == [0.0, 3.7, 4.0]


@pytest.mark.parametrize("jump_s", [-86_400.0, -1.0, 1.0, 86_400.0])
def test_a_jump_of_the_wall_clock_neither_fires_nor_resolves_an_alert(jump_s):
    clock = ManualClock()
    tracker = RuleTracker(rule(for_s=2.0, keep_firing_for_s=2.0))

    def after(seconds: float, vector: list[Sample]) -> list[str]:
        clock.advance(seconds)
        moves = tracker.evaluate(vector, clock.now())
        return [f"{moved.before.value}→{moved.alert.state.value}" for moved in moves]

    assert after(0.0, [hot()]) == ["inactive→pending"]
    clock.step_wall_clock(jump_s)
    assert after(1.75, [hot()]) == []
    assert after(0.25, [hot()]) == ["pending→firing"]
    fired_ns = clock.time_ns()
    assert after(1.0, []) == []
    clock.step_wall_clock(jump_s)
    assert after(1.75, []) == []
    assert after(0.25, []) == ["firing→resolved"]
    clock.step_wall_clock(jump_s)
    assert after(RESOLVED_KEPT_S, []) == []
    (alert,) = tracker.alerts
    assert alert.to_json()["fired_at_ns"] == fired_ns, "as the wall clock showed it then"


def test_a_jump_of_the_wall_clock_does_not_shift_the_rounds_of_a_group():
    clock, runner = ManualClock(), RuleRunner(load_text(RULES))
    runner.evaluate(InstantSamples([]), clock.now())
    clock.step_wall_clock(-3_600.0)
    clock.advance(0.25)
    runner.evaluate(InstantSamples([Sample.of("a", {}, 1)]), clock.now())
    assert {alert.rule for alert in runner.firing} == {"Fine"}
    clock.step_wall_clock(3_600.0)
    clock.advance(0.5)
    runner.evaluate(InstantSamples([Sample.of("a", {}, 1)]), clock.now())
    assert {alert.rule for alert in runner.firing} == {"Fine"}
    clock.advance(0.25)
    runner.evaluate(InstantSamples([Sample.of("a", {}, 1)]), clock.now())
    assert {alert.rule for alert in runner.firing} == {"Fine", "Slow"}


def test_rules_ask_their_source_for_the_time_of_the_wall_clock():
    clock, asked = ManualClock(), []

    class Asked(InstantSamples):
        def select(self, name, matchers, at):
            asked.append((name, at))
            return super().select(name, matchers, at)

    RuleRunner(load_text(RULES)).evaluate(Asked([]), clock.now())
    assert set(asked) == {(name, clock.time_ns() / 1e9) for name in "ab"}


def test_alerts_that_end_together_end_in_the_order_in_which_they_came():
    tracker = RuleTracker(rule())
    users = [f"u-{n}" for n in range(50)]
    tracker.evaluate([hot(user) for user in users], at(1.0))
    ended = [moved.alert.labels["user"] for moved in tracker.evaluate([], at(2.0))]
    assert ended == users


def test_a_source_of_one_moment_answers_for_ranges_too():
    samples = [hot("u-1", 1.0), hot("u-2", 2.0)]
    source = InstantSamples(samples, at=10.0)
    only = (Matcher("user", MatchKind.EQUAL, "u-2"),)
    assert list(source.select("load", only, 10.0)) == samples[1:]
    assert list(source.select("load", (), 9.9)) == [], "it is not known yet"
    (series,) = source.select_range("load", only, 5.0, 10.0)
    assert (series.labels, list(series.points)) == (samples[1].labels, [Point(10.0, 2.0)])
    assert list(source.select_range("load", (), 10.0, 20.0)) == [], "the start is outside"
    assert list(source.select_range("load", (), 5.0, 9.0)) == []
    (moment,) = InstantSamples(samples[:1]).select_range("load", (), 1.0, 7.0)
    assert moment.points == (Point(7.0, 1.0),)
