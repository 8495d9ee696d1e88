"""Breakers around all calls of a user to a service: what is known of them, how they escalate."""

import pytest
from charge_rows import charge, linked
from control_platform import HOT, Platform

from heatshield.contract import BreakerMode, EntryScope
from heatshield_alerts.rules import load_text
from heatshield_collector.control import LoadAnswers
from heatshield_collector.detect import PANE_S, Durations

RULE = """
groups:
  - name: mine
    interval: 250ms
    rules:
      - alert: Everywhere
        expr: sum by (user, service) (heatshield_user_load{cost="busy", window="1s"}) > 0.5
        labels: {heatshield_action: trip}
        annotations: {heatshield_scope: user_service}
"""
WHOLE = HOT._replace(call="")


def spread(platform: Platform, rounds: int, calls=("POST /a", "POST /b")) -> None:
    """Rounds of a quarter of a second in which the user keeps a worker busy by each call."""
    for _ in range(rounds):
        rows = []
        for call in calls * 5:
            platform._traces += 1
            rows.append(charge("hot", 50, call=call, trace=platform._traces))
        platform.detection.observe(linked(rows), platform.clock.now())
        platform.clock.advance(PANE_S)
        platform.loop.round(platform.clock.now())


def test_the_figures_are_those_of_all_the_calls_together():
    platform = Platform(rules=load_text(RULE)).warm()
    spread(platform, 4)
    ((key, _, entry),) = platform.breakers.held()
    assert key == WHOLE
    assert (entry.scope, entry.mode) == (EntryScope.USER_SERVICE, BreakerMode.PACE)
    assert entry.cost_per_call == pytest.approx(0.05)
    assert entry.evidence["busy_load"] >= 0.5
    (held,) = platform.breakers._control.held
    assert 0 < held.draft.traffic <= 1
    assert held.heat > 1


def test_a_user_who_goes_on_with_all_calls_is_refused_after_two_seconds():
    platform = Platform(rules=load_text(RULE)).warm()
    spread(platform, 20)
    assert platform.breakers.snapshot().entries[0].mode is BreakerMode.REJECT


def test_who_is_held_on_a_whole_service_is_shown_so_on_each_call():
    platform = Platform(rules=load_text(RULE)).warm()
    spread(platform, 4)
    (entry,) = platform.breakers.snapshot().entries
    loads = LoadAnswers(platform.detection, Durations(), platform.breakers, list, platform.clock)
    shown = loads.hot_users("busy", "1s", 2, "call").users
    assert [(row.user, row.breaker) for row in shown] == [("hot", entry.id)] * 2
    assert platform.loop.outcomes.text_of(HOT._replace(call="POST /a")).startswith("paced to ")
    assert platform.loop.outcomes.refuses_calls_of(HOT)
    assert platform.loop.outcomes.of(HOT._replace(user="another")) is None


def test_other_services_and_users_do_not_count():
    platform = Platform(rules=load_text(RULE)).warm()
    spread(platform, 4)
    now_s = platform.clock.monotonic()
    loads = platform.detection.loads
    assert loads.load_of(WHOLE._replace(service="sho"), "1s", now_s).lower == 0
    assert loads.load_of(WHOLE._replace(user="ho"), "1s", now_s).lower == 0
    assert loads.load_of(WHOLE, "1s", now_s).lower == pytest.approx(
        1.5
    )  # the last quarter is not over
