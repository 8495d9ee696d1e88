"""Rounds between a group's intervals."""

from moments import at

from heatshield_alerts.rules import RuleRunner, load_text
from heatshield_alerts.series import InstantSamples, Sample

RULES = """
groups:
  - name: slow
    interval: 10s
    rules:
      - alert: Hot
        expr: load > 1
"""
SOURCE = InstantSamples([Sample.of("load", {"user": "u-1"}, 2.0)])
NOTHING = InstantSamples([])


def fired(evaluation):
    return [transition.alert.state.value for transition in evaluation.transitions]


def test_an_early_round_evaluates_a_group_that_is_not_due():
    runner = RuleRunner(load_text(RULES))
    assert fired(runner.evaluate(NOTHING, at(0.0))) == []
    assert fired(runner.evaluate(SOURCE, at(1.0))) == []
    assert fired(runner.evaluate(SOURCE, at(1.0), early=True)) == ["pending", "firing"]


def test_an_early_round_does_not_shift_the_regular_ones():
    runner = RuleRunner(load_text(RULES))
    runner.evaluate(NOTHING, at(0.0))
    runner.evaluate(NOTHING, at(9.0), early=True)
    assert fired(runner.evaluate(SOURCE, at(9.9))) == []
    assert fired(runner.evaluate(SOURCE, at(10.0))) == ["pending", "firing"]
