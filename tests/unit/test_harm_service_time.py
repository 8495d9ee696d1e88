"""Service told from waiting, and what so few operations can tell."""

import numpy as np
import pytest

from heatshield_collector.detect.harm.costs import operation_cost_times
from heatshield_collector.detect.harm.servers import GENERATION_S, LEAST, ServersShown
from heatshield_collector.detect.harm.service_time import in_line, in_turn
from heatshield_collector.detect.harm.significance import share_tail


def served(arrivals_s, costs_s, servers):
    """When each ends where so many are served at once, first come, first served."""
    free = [0.0] * servers
    ends = []
    for at, cost in zip(arrivals_s, costs_s, strict=True):
        free.sort()
        free[0] = max(at, free[0]) + cost
        ends.append(free[0])
    return np.array(ends)


@pytest.fixture
def busy():
    """Arrivals, costs and ends at four servers that are short."""
    chance = np.random.default_rng(1)
    arrivals_s = np.sort(chance.uniform(0, 4, 600))
    costs_s = chance.exponential(0.03, 600)
    return arrivals_s, costs_s, served(arrivals_s, costs_s, 4)


def test_in_turn_tells_the_wait_from_the_service_where_several_are_served(busy):
    arrivals_s, costs_s, ends_s = busy
    waits = ends_s - arrivals_s - costs_s
    assert waits.max() > 0.1
    begins_s = in_turn(arrivals_s, ends_s, 4)
    assert ends_s - begins_s == pytest.approx(costs_s, abs=1e-9)


def test_overtaking_shows_how_many_are_served_at_once_and_never_more(busy):
    arrivals_s, _, ends_s = busy
    shown = ServersShown()
    for now_s in np.arange(0.25, 5, 0.25):
        here = (arrivals_s < now_s) & (ends_s > now_s - 1)
        ends = np.minimum(ends_s[here], now_s)
        shown.look(arrivals_s[here], ends, (ends_s[here] > now_s).astype(float), now_s)
    assert shown.most == 4


def test_how_many_are_served_is_not_known_of_few_operations_and_is_forgotten():
    shown = ServersShown()
    starts, ends, ended = np.zeros(LEAST), np.arange(1.0, LEAST + 1), np.zeros(LEAST)
    shown.look(starts[:9], ends[:9], ended[:9], 10.0)
    assert shown.most is None
    starts, ends = starts.copy(), ends.copy()
    starts[0], ends[0] = 9.0, LEAST + 5.0
    starts[1:], ends[1:] = 10.0, 11.0
    shown.look(starts, ends, ended, 200.0)
    assert shown.most == 2
    for at_s in (200.0 + GENERATION_S, 200.0 + 2 * GENERATION_S):
        shown.look(starts, ends, ended, at_s)
    assert shown.most == 1


def test_a_few_dear_operations_that_fall_on_a_user_by_chance_tell_nothing():
    spent_s, own = np.full(80, 0.0005), np.zeros(80, dtype=bool)
    spent_s[::4] = 0.04  # twenty dear ones
    own[:12] = True  # three of which are the user's
    assert share_tail(spent_s, np.ones(80), own) > 0.05
    own[:] = False
    own[:64:4] = True  # sixteen
    assert share_tail(spent_s, np.ones(80), own) < 1e-6


def test_rows_that_stand_for_many_count_as_many():
    spent_s, own = np.array([0.4, 0.1]), np.array([True, False])
    few = share_tail(spent_s, np.array([4.0, 4.0]), own)
    many = share_tail(spent_s, np.array([4.0, 400.0]), own)
    assert few > 0.2
    assert many < 1e-3
    assert share_tail(np.zeros(2), np.ones(2), own) == 1.0


def test_what_waits_to_be_served_makes_no_operation_look_cheap():
    """A bad deploy: everything is dear, and most of it waits."""
    service_s = np.array([0.03] * 4 + [0.03] * 6 + [0.0] * 90)
    own, call = np.arange(100) < 4, np.zeros(100)
    waits = np.where(service_s > 0, 1.0, 0.0)
    times, chance = operation_cost_times(call, service_s, waits, own)
    assert times == pytest.approx(1.0)
    assert chance > 0.1


def test_a_user_of_cheap_and_dear_calls_is_judged_by_the_dear_ones():
    service_s = np.array([0.08] * 6 + [0.0005] * 60 + [0.001] * 100)
    own, call = np.arange(166) < 66, np.array([0.0] * 6 + [1.0] * 160)
    times, chance = operation_cost_times(call, service_s, np.ones(166), own)
    assert times > 5
    assert chance < 1e-3


def test_who_reads_an_answer_first_is_not_charged_for_what_was_served_before():
    """Five operations come while a long one is served; its own client reads the answer last."""
    starts = np.array([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    served_until = np.array([0.06, 0.0601, 0.0602, 0.0603, 0.0604, 0.0605])
    read = served_until + np.array([0.03, 0.0, 0.02, 0.001, 0.004, 0.0])
    service_s = in_line(starts, read).service_s
    assert service_s[0] == pytest.approx(0.06, abs=0.001)
    assert service_s[1:].sum() < 0.001
