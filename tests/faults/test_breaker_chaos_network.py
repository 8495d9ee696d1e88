"""Twenty real clients behind a network that is slow, breaks, or carries one direction alone."""

import time

import pytest
from breaker_fleet import audit

from heatshield.contract import RAMP_S

LEASE_S = 5.0
SLOWLY_S = 15.0


def held_by_all(stage, user, within_s, **more):
    stage.fleet.tell(stage.fleet.all, ask=[[user, "work"]], every_s=0.05)
    began_s = time.monotonic()
    entry_id = stage.trip(user, **more)
    stage.until(
        lambda: len(stage.refusing(user, began_s)) == len(stage.fleet),
        f"all clients refuse {user}",
        within_s,
    )
    return entry_id


def test_over_a_slow_network_that_breaks_connections_all_agree_in_the_end(stage):
    """500 ms on average, up to a second, each way; one piece of ten breaks its connection."""
    for proxy in stage.proxies.each:
        proxy.up.latency_s = proxy.down.latency_s = (0.0, 1.0)
        proxy.up.reset = proxy.down.reset = 0.1
    entry_id = held_by_all(stage, "u-slow", within_s=30.0)
    time.sleep(5.0)
    assert sum(proxy.resets for proxy in stage.proxies.each) > len(stage.fleet)
    stage.clear(entry_id)
    stage.proxies.calm()
    cleared_s = time.monotonic()
    stage.closed.append(audit.Closed("u-slow", cleared_s, cleared_s + SLOWLY_S))
    time.sleep(SLOWLY_S)
    stage.settle()
    stage.check()


@pytest.mark.parametrize("way", ["up", "down"])
def test_where_one_direction_carries_nothing_nobody_is_refused_after_lease_and_ramp(stage, way):
    held_by_all(stage, f"u-{way}", within_s=5.0, lease_s=LEASE_S)
    cut = range(10)
    for number in cut:
        getattr(stage.proxies.each[number], way).held = True
    from_s = time.monotonic()
    time.sleep(LEASE_S + RAMP_S + 2.0)
    stage.silences.append(audit.Silence(cut, from_s, time.monotonic()))
    late = stage.refusing(f"u-{way}", from_s + LEASE_S + RAMP_S + 0.5)
    assert not late & set(cut)
    stage.proxies.calm()
    time.sleep(SLOWLY_S)
    stage.settle()
    stage.check()
