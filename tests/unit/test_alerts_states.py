"""The alert machine, step by step, over chosen histories."""

import pytest

from heatshield_alerts import InstantSamples, Labels, RuleRunner, Sample, load_text, parse
from heatshield_alerts.promql import EvaluationError
from heatshield_alerts.rules import AlertRule, AlertState, RuleTracker
from heatshield_alerts.rules import track as track_module
from heatshield_alerts.rules.state import RESOLVED_KEPT_S, TRANSITIONS, Alert, AlertEvent, step
from heatshield_alerts.rules.template import Template


def rule(**fields) -> AlertRule:
    return AlertRule("Hot", parse("load > 0"), **fields)


def hot(user: str = "u-1", value: float = 1.0) -> Sample:
    return Sample.of("load", {"user": user}, value)


def states(tracker: RuleTracker, vector: list[Sample], at_s: float) -> list[str]:
    return [
        f"{moved.before.value}→{moved.alert.state.value}"
        for moved in tracker.evaluate(vector, at_s)
    ]


def test_without_for_it_fires_in_the_evaluation_that_finds_it():
    tracker = RuleTracker(rule())
    assert states(tracker, [hot()], 10.0) == ["inactive→pending", "pending→firing"]
    (alert,) = tracker.alerts
    assert (alert.active_at_s, alert.fired_at_s, alert.value) == (10.0, 10.0, 1.0)
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
    assert tracker.alerts[0].missing_since_s == 16.0
    assert states(tracker, [], 21.0) == ["firing→resolved"]
    assert tracker.alerts[0].missing_since_s is None


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
    assert (alert.active_at_s, alert.fired_at_s, alert.resolved_at_s) == (13.0, None, None)


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
    tracker.evaluate([hot(value=2.0)], 10.0)
    tracker.evaluate([hot(value=3.0)], 10.25)
    (alert,) = tracker.alerts
    assert dict(alert.labels) == {"alertname": "Hot", "severity": "page", "user": "<u-1>"}
    assert alert.annotations == {"summary": "u-1 at 3"}
    assert alert.to_json(offset_ns=5)["active_at_ns"] == 10_000_000_005


def test_two_series_that_make_one_alert_are_an_error_that_changes_nothing():
    tracker = RuleTracker(rule(labels={"user": Template("same")}))
    tracker.evaluate([hot("u-1")], 10.0)
    before = tracker.alerts
    with pytest.raises(EvaluationError, match="two series make one alert"):
        tracker.evaluate([hot("u-1"), hot("u-2")], 11.0)
    assert tracker.alerts == before


def test_more_alerts_than_the_limit_are_an_error_that_changes_nothing():
    tracker = RuleTracker(rule(limit=1))
    tracker.evaluate([hot("u-1")], 10.0)
    with pytest.raises(EvaluationError, match="limit is 1"):
        tracker.evaluate([hot("u-1"), hot("u-2")], 11.0)
    assert len(tracker.alerts) == 1


def test_resolved_alerts_are_bounded_and_the_newest_stay(monkeypatch):
    monkeypatch.setattr(track_module, "MAX_RESOLVED", 3)
    tracker = RuleTracker(rule())
    for n in range(10):
        tracker.evaluate([hot(f"u-{n}")], float(n))
    kept = [a.labels["user"] for a in tracker.alerts if a.state is AlertState.RESOLVED]
    assert kept == ["u-6", "u-7", "u-8"]


def test_what_the_table_does_not_have_raises():
    alert = Alert("Hot", Labels(), AlertState.PENDING, 1.0)
    for event in AlertEvent:
        if event in TRANSITIONS[AlertState.PENDING]:
            step(alert, event, 0.0)
        else:
            with pytest.raises(KeyError):
                step(alert, event, 0.0)


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
    done = runner.evaluate(source, 0.0)
    assert [(row.group, row.rule) for row in done.failures] == [("fast", "Broken")]
    assert {alert.rule for alert in runner.firing} == {"Fine", "Slow"}


def test_each_group_is_evaluated_at_its_own_interval():
    runner = RuleRunner(load_text(RULES))
    assert runner.interval_s == 0.25
    source, resolved_at = InstantSamples([Sample.of("a", {}, 1)]), {}
    runner.evaluate(source, 0.0)
    for tick in range(1, 9):
        for moved in runner.evaluate(InstantSamples([]), tick * 0.25).transitions:
            resolved_at[moved.alert.rule] = moved.at_s
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
        runner.evaluate(InstantSamples([]), at_s)
    assert calls == [0.0, 3.7, 4.0]
