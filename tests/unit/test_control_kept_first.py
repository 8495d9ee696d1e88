"""Whatever clients and people hear of breakers is kept for a restart before they hear of it."""

import pytest
from control_platform import HOT, Platform

from heatshield.contract import PlatformMode
from heatshield_alerts.control_state import KeptControl
from heatshield_collector.ports import TripRequest


@pytest.fixture
def platform():
    """One whose listeners check, whenever they hear anything, that a restart would know it."""
    made = Platform()

    def check(*_heard):
        made.heard += 1
        known = KeptControl(made.state).held(made.clock.now())
        assert [one.entry for one in known] == list(made.breakers._control.snapshot().entries)

    made.heard = 0
    made.breakers.subscribe(check)
    publish = made.events.publish

    def published(name, data):
        if name in ("breaker", "mode"):
            check()
        publish(name, data)

    made.events.publish = published
    return made


def trip(user="u", **fields):
    return TripRequest(user, "shop", "POST /p", issuer="human:ana", **fields)


def test_what_people_do(platform):
    entry = platform.breakers.trip(trip())
    platform.breakers.trip(trip("v", lease_ms=60_000))
    platform.breakers.trip(trip(reason="other"))
    platform.breakers.clear(entry.id, "ana")
    platform.breakers.set_mode(PlatformMode.SHADOW, "ana")
    assert platform.heard == 10


def test_what_rules_and_time_do(platform):
    platform.warm()
    platform.burn(8.0)
    assert platform.breakers.snapshot().entries[0].mode.value == "reject"
    platform.burn(60.0, workers=0.0)
    assert platform.held() == []
    changes = {one["change"] for one in platform.events.of("breaker")}
    assert changes >= {"opened", "escalated", "half_open", "closed"}
    assert platform.heard >= 8


def test_a_person_s_renewal_that_clients_don_t_see_is_kept_when_it_is_answered(platform):
    platform.breakers.trip(trip(lease_ms=60_000))
    platform.clock.advance(3.0)
    platform.breakers.trip(trip(lease_ms=60_000))
    (held,) = KeptControl(platform.state).held(platform.clock.now())
    assert held.left_s(platform.clock.monotonic()) == 60.0


def test_what_an_alert_goes_on_asking_for_is_kept_now_and_then_and_at_the_end(platform):
    platform.warm()
    platform.burn(6.0)
    writes = []
    keep = platform.breakers._keep_state
    platform.breakers._keep_state = lambda *state: (writes.append(state), keep(*state))
    platform.burn(30.0)
    assert 2 <= len(writes) <= 4
    platform.breakers.keep()
    (held,) = KeptControl(platform.state).held(platform.clock.now())
    assert held.key == HOT
    (now_held,) = platform.breakers._control.held
    assert held.left_s(0.0) == pytest.approx(now_held.left_s(0.0))


@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0])
def test_what_is_held_and_held_off_outlives_a_jump_of_the_wall_clock_and_a_restart(
    platform, seconds
):
    platform.breakers.trip(trip(lease_ms=600_000))
    platform.breakers.clear(platform.breakers.trip(trip("v")).id, "ana")
    platform.clock.step_wall_clock(seconds)
    platform.step()
    now = platform.clock.now()
    (held,) = KeptControl(platform.state).held(now)
    assert 590.0 < held.left_s(now.monotonic_s) <= 600.0
    kept = KeptControl(platform.state).restraint(now)
    assert kept.is_held_down(held.key._replace(user="v"), now.monotonic_s)
    assert not kept.is_held_down(held.key._replace(user="v"), now.monotonic_s + 600.0)


def test_refusals_are_not_kept(platform):
    platform.breakers.restore(KeptControl({}), platform.clock.now())
    before = platform.state
    for number in range(1_000):
        platform.breakers.clear(f"b-{number}", "ana")
    assert platform.state is before
    assert before["held"] == []
    assert len(platform.events.of("breaker")) == 1_000


def test_where_nothing_is_kept_breakers_work_all_the_same():
    platform = Platform()
    platform.breakers._keep_state = None
    entry = platform.breakers.trip(trip())
    platform.breakers.keep()
    assert platform.breakers.clear(entry.id, "ana") == entry
