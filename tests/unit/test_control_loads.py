"""Loads as people read them, with what detection and breakers say of their users."""

import pytest
from charge_rows import charge, linked
from control_platform import HOT, Platform

from heatshield.names import COLLECTOR_SERVICE
from heatshield_collector.control import LoadAnswers
from heatshield_collector.detect import Durations


def test_hot_users_are_shown_with_class_share_baseline_breaker_and_request():
    platform = Platform().warm()
    platform.burn(1.0)
    loads = LoadAnswers(
        platform.detection, Durations(), platform.breakers,
        lambda: platform.loop.findings, platform.clock,
    )  # fmt: skip
    view = loads.hot_users("busy", "1s", 1, "call")
    assert view.capacity == 8.0
    (row,) = view.users
    assert (row.user, row.service, row.call, row.klass) == (*HOT[1:], "harmful")
    assert row.share == pytest.approx(row.lower / 8)
    assert row.breaker == platform.breakers.snapshot().entries[0].id
    assert int(row.trace_id, 16) > 10**6
    (by_user,) = loads.hot_users("calls", "1s", 1, "user").users
    assert (by_user.user, by_user.service, by_user.klass) == ("hot", "", "harmful")
    assert by_user.load == pytest.approx(40.0, rel=0.3)
    (call,) = loads.calls("10s", 5)
    assert (call.service, call.call) == ("shop", "POST /p")


def test_the_collectors_own_calls_and_workers_are_left_out_unless_asked_for():
    platform = Platform()
    own = COLLECTOR_SERVICE
    platform.breakers.attend(own, "i-1", 3)
    platform.clock.advance(1.0)  # workers are counted from time to time
    rows = [charge(None, 900, trace=3, service=own, call="GET /metrics"), charge("u", 50, trace=2)]
    platform.detection.observe(linked(rows), platform.clock.now())
    loads = LoadAnswers(platform.detection, Durations(), platform.breakers, list, platform.clock)
    view, whole = (loads.hot_users("busy", "1s", 1, "call", own=also) for also in (False, True))
    assert [row.service for row in view.users] == ["shop"]
    assert [row.service for row in whole.users] == [own]
    assert whole.capacity == view.capacity + 3


def test_costs_of_no_user_are_apart_from_a_user_named_unknown_but_share_a_scraped_series():
    platform = Platform()
    rows = [charge(None, 100, eligible=False), charge("unknown", 50, trace=2)]
    platform.detection.observe(linked(rows), platform.clock.now())
    loads = LoadAnswers(platform.detection, Durations(), platform.breakers, list, platform.clock)
    view = loads.hot_users("busy", "1s", 9, "call")
    assert [(row.user, round(row.load, 9)) for row in view.users] == [
        (None, 0.1),
        ("unknown", 0.05),
    ]
    assert [row.user for row in loads.hot_users("busy", "1s", 1, "user").users] == [None]
    wanted = {"user": "unknown", "service": "shop", "call": "POST /p", "cost": "busy"}
    samples = [
        sample
        for sample in platform.loop.samples()
        if dict(sample.labels).items() >= ({**wanted, "window": "1s"}).items()
    ]
    assert [round(sample.value, 9) for sample in samples] == [0.15]
