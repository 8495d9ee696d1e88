"""States of alerts go on after a restart, and people hear how what they were told of ended."""

from queue import Queue

import pytest

from heatshield.clock import Instant
from heatshield_alerts import AlertState, InstantSamples, RuleRunner, Sample, load_text
from heatshield_alerts.notify import Notifier
from heatshield_alerts.rules.kept import OUTAGE_S, SEEN_EVERY_S
from heatshield_alerts.rules.state import RESOLVED_KEPT_S

RULES = """
groups:
  - name: g
    interval: 250ms
    rules:
      - {alert: Slow, expr: "a > 0", for: 60s, labels: {severity: page}}
      - {alert: Fast, expr: "a > 0", annotations: {summary: "{{ $labels.user }}"}}
"""
GOOD, NONE = InstantSamples([Sample.of("a", {"user": "u"}, 2.0)]), InstantSamples([])
EPOCH_NS = 1_700_000_000 * 10**9


class Process:
    """A collector's runner on a monotonic clock of its own, and what it kept."""

    def __init__(self, started_s: float, kept: dict, rules: str = RULES) -> None:
        self.started_s, self.kept = started_s, dict(kept)
        self.runner = RuleRunner(load_text(rules))
        self.alerts, gone = self.runner.restore(self.kept, self.at(started_s))
        for key in gone:
            del self.kept[key]

    def at(self, seconds: float) -> Instant:
        return Instant(seconds - self.started_s, EPOCH_NS + round(seconds * 1e9))

    def evaluate(self, source: InstantSamples, *times: float) -> list[str]:
        moved = []
        for seconds in times:
            done = self.runner.evaluate(source, self.at(seconds))
            for key, text in done.kept.items():
                self.kept.pop(key, None)
                if text is not None:
                    self.kept[key] = text
            moved += [f"{one.alert.rule}→{one.alert.state.value}" for one in done.transitions]
        return moved


def test_for_goes_on_where_it_stood_and_the_outage_counts_as_nothing():
    first = Process(0.0, {})
    first.evaluate(GOOD, 1.0, 12.0, 23.0, 34.0, 42.0)
    assert 42.0 - SEEN_EVERY_S < 34.0
    second = Process(500.0, first.kept)
    slow = next(one for one in second.alerts if one.rule == "Slow")
    assert (slow.state, slow.active_at.monotonic_s) == (AlertState.PENDING, 1.0 - 34.0)
    assert second.evaluate(GOOD, 500.0, 526.75) == []
    assert second.evaluate(GOOD, 527.0) == ["Slow→firing"]


def test_what_fired_fires_on_and_resolves_once():
    first = Process(0.0, {})
    first.evaluate(GOOD, 1.0)
    second = Process(100.0, first.kept)
    fast = next(one for one in second.alerts if one.rule == "Fast")
    assert (fast.state, fast.annotations, fast.value) == (AlertState.FIRING, {"summary": "u"}, 2.0)
    assert fast.fired_at == Instant(1.0 - 100.0, EPOCH_NS + 10**9)
    assert second.evaluate(GOOD, 100.0) == []
    assert second.evaluate(NONE, 101.0) == ["Slow→inactive", "Fast→resolved"]
    third = Process(200.0, second.kept)
    assert [one.rule for one in third.alerts] == ["Fast"]
    assert third.evaluate(NONE, 102.0 + RESOLVED_KEPT_S) == ["Fast→inactive"]
    assert third.kept == {}


def test_what_was_pending_before_a_long_outage_or_has_no_rule_any_longer_is_let_go():
    first = Process(0.0, {})
    first.evaluate(GOOD, 1.0)
    late = Process(2.0 + OUTAGE_S, first.kept)
    assert [one.rule for one in late.alerts] == ["Fast"]
    assert len(late.kept) == 1
    other = Process(2.0, first.kept, RULES.replace("Fast", "Other").replace("page", "ticket"))
    assert (other.alerts, other.kept) == ([], {})


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"state": "firing"}'])
def test_what_can_t_be_read_is_let_go(text):
    kept = {'["g", {"alertname": "Fast"}]': text}
    assert Process(0.0, kept).kept == {}


def test_a_wall_clock_that_was_set_back_makes_no_alert_of_the_future():
    first = Process(1_000.0, {})
    first.evaluate(GOOD, 1_000.0)
    second = Process(10.0, first.kept)
    assert {one.active_at for one in second.alerts} == {second.at(10.0)}
    assert second.evaluate(GOOD, 10.0, 69.0) == []
    assert second.evaluate(GOOD, 70.0) == ["Slow→firing"]


class Target:
    def __init__(self, told: Queue) -> None:
        self.told = told

    def send(self, message, status) -> None:
        self.told.put((status.value, message.title))


class People:
    """A notifier of one process, with what it kept and whom it told."""

    def __init__(self, kept: dict, alerts: list, urls: tuple = ("x://one",)) -> None:
        self.kept, self.told = dict(kept), Queue()
        self.notifier = Notifier(urls, make_sender=lambda _: Target(self.told), keep=self.keep)
        self.notifier.start()
        self.notifier.restore(kept, alerts)

    def keep(self, changed: dict) -> None:
        for key, text in changed.items():
            self.kept.pop(key, None)
            if text is not None:
                self.kept[key] = text

    def end(self) -> list:
        self.notifier.stop(60.0)
        return [(status, title.split(" ")[1]) for status, title in list(self.told.queue)]


def firing(process: Process) -> list:
    return [one for one in process.runner.alerts if one.state is AlertState.FIRING]


def test_a_target_that_was_told_firing_hears_resolved_after_a_restart_and_nothing_twice():
    process = Process(0.0, {})
    process.evaluate(GOOD, 0.0)
    first = People({}, [])
    for alert in firing(process):
        first.notifier.submit(alert)
    assert first.end() == [("firing", "Fast:")]
    assert "x://" not in str(first.kept), "a URL is a secret"

    second = People(first.kept, firing(process))
    assert second.end() == []
    process.evaluate(NONE, 1.0)
    third = People(second.kept, list(process.runner.alerts))
    assert third.end() == [("resolved", "Fast:")]
    assert third.kept == {}


def test_a_target_hears_the_end_of_an_alert_whose_rule_is_gone_and_what_it_was_not_told():
    process = Process(0.0, {})
    process.evaluate(GOOD, 0.0)
    first = People({}, firing(process))
    assert first.end() == [("firing", "Fast:")], "the earlier process ended before it could tell"
    gone = People(first.kept, [])
    assert gone.end() == [("resolved", "Fast:")]
    assert gone.kept == {}
    elsewhere = People(first.kept, [], urls=("x://other",))
    assert (elsewhere.end(), elsewhere.kept) == ([], {})
