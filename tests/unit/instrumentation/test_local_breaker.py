"""The local breaker: each transition, what counts and what doesn't, how long it stays open."""

import pytest

from heatshield.clock import ManualClock
from heatshield.resilience.local_breaker import (
    TRANSITIONS,
    Event,
    LocalBreaker,
    Outcome,
    Phase,
    Rules,
    State,
    exceeded,
    open_time_s,
)
from heatshield.resilience.outcome_window import Counts

FAILURE, SUCCESS, REJECTED, CUT = (
    Outcome.FAILURE,
    Outcome.SUCCESS,
    Outcome.REJECTED,
    Outcome.CUT,
)


class Client:
    """Makes requests through one breaker; ``chance`` in the middle means no jitter."""

    def __init__(self, rules=None, chance=0.5):
        self.clock = ManualClock()
        self.chance = chance
        self.breaker = LocalBreaker(rules or Rules(), self.now, lambda: self.chance)

    @property
    def now(self):
        return self.clock.monotonic()

    @property
    def state(self):
        return self.breaker.state

    def ask(self):
        return self.breaker.allow(self.now)

    def record(self, phase, outcome, took_s=0.0):
        self.breaker.record(phase, outcome, took_s, self.now)

    def call(self, outcome, took_s=0.0):
        """One request; whether it was let through."""
        phase = self.ask()
        if phase is not None:
            self.record(phase, outcome, took_s)
        return phase is not None

    def calls(self, outcome, count, took_s=0.0):
        for _ in range(count):
            assert self.call(outcome, took_s)

    def trip(self):
        """Ten failures, looked at with the next one a second later."""
        self.calls(FAILURE, 10)
        self.clock.advance(1)
        self.calls(FAILURE, 1)
        assert self.state is State.OPEN

    def half_open(self):
        """Opens it and waits; gives the trial."""
        self.trip()
        self.clock.advance(self.breaker.retry_after_s(self.now))
        trial = self.ask()
        assert self.state is State.HALF_OPEN
        return trial


@pytest.fixture
def client():
    return Client()


def test_a_new_one_lets_everything_through(client):
    client.calls(SUCCESS, 100)
    assert client.state is State.CLOSED
    assert client.breaker.retry_after_s(client.now) == 0


def test_more_than_half_of_ten_failures_open_it_at_the_next_look(client):
    client.calls(SUCCESS, 4)
    client.calls(FAILURE, 6)
    assert client.state is State.CLOSED  # the second is not over
    client.clock.advance(0.999)
    client.calls(FAILURE, 1)
    assert client.state is State.CLOSED
    client.clock.advance(0.001)
    client.calls(FAILURE, 1)
    assert client.state is State.OPEN
    assert client.breaker.reason == "7 of 11 requests failed"
    assert client.breaker.opened == 1


@pytest.mark.parametrize(("failures", "successes"), [(5, 5), (9, 0), (0, 10), (50, 50)])
def test_half_of_them_or_fewer_than_ten_do_not(client, failures, successes):
    client.calls(SUCCESS, successes)
    client.calls(FAILURE, failures)
    client.clock.advance(1)
    client.calls(FAILURE, 1)
    assert client.state is State.CLOSED


def test_it_is_a_failure_that_opens_it_not_a_success(client):
    client.calls(FAILURE, 10)
    client.clock.advance(1)
    client.calls(SUCCESS, 1)  # completes the second, and nobody looks
    assert client.state is State.CLOSED
    client.clock.advance(1)
    client.calls(FAILURE, 1)
    assert client.state is State.OPEN


def test_failures_are_forgotten_after_twenty_seconds(client):
    client.calls(FAILURE, 9)
    client.clock.advance(20)
    client.calls(SUCCESS, 1)
    client.clock.advance(0.5)
    client.calls(FAILURE, 1)
    client.clock.advance(1)  # the first bucket began 21.5 s ago
    client.calls(FAILURE, 1)
    assert client.state is State.CLOSED
    assert client.breaker.counts(client.now) == Counts(2, 1, 0)


def test_an_open_one_refuses_for_ten_seconds(client):
    client.trip()
    assert client.breaker.retry_after_s(client.now) == pytest.approx(10)
    client.clock.advance(9.999)
    assert not client.call(SUCCESS)
    assert not client.call(SUCCESS)
    assert client.breaker.refused == 2
    client.clock.advance(0.002)
    assert client.call(SUCCESS)


def test_a_trial_comes_every_three_seconds_while_none_is_answered(client):
    client.half_open()
    assert client.ask() is None
    client.clock.advance(2.999)
    assert client.ask() is None
    client.clock.advance(0.001)
    assert client.ask() is not None
    assert client.ask() is None


def test_the_first_success_closes_it(client):
    trial = client.half_open()
    client.record(trial, SUCCESS)
    assert client.state is State.CLOSED
    client.calls(FAILURE, 9)  # what led to opening is forgotten
    client.clock.advance(1)
    client.calls(FAILURE, 1)
    assert client.state is State.CLOSED


def test_the_first_failure_opens_it_again_for_twice_as_long(client):
    client.record(client.half_open(), FAILURE)
    assert client.state is State.OPEN
    assert client.breaker.reason == "a trial failed"
    assert client.breaker.retry_after_s(client.now) == pytest.approx(20)


def test_a_late_trial_may_still_decide(client):
    first = client.half_open()
    client.clock.advance(3)
    second = client.ask()
    client.record(first, SUCCESS)
    assert client.state is State.CLOSED
    client.record(second, FAILURE)  # of a phase that is over
    assert client.state is State.CLOSED


def test_open_times_double_up_to_five_minutes(client):
    client.trip()
    seen = []
    for _ in range(8):
        seen.append(client.breaker.retry_after_s(client.now))
        client.clock.advance(seen[-1])
        client.call(FAILURE)
    assert seen == pytest.approx([10, 20, 40, 80, 160, 300, 300, 300])


@pytest.mark.parametrize(
    ("again", "chance", "expected"),
    [(0, 0, 8), (0, 0.5, 10), (0, 1, 12), (2, 0, 32), (5, 0, 256), (5, 1, 300), (9_999, 0, 300)],
)
def test_jitter_is_a_fifth_to_either_side_and_never_beyond_the_cap(again, chance, expected):
    assert open_time_s(Rules(), again, chance) == pytest.approx(expected)


def test_one_that_trips_soon_after_it_closed_opens_for_longer(client):
    client.record(client.half_open(), SUCCESS)
    client.clock.advance(18)
    client.trip()
    assert client.breaker.retry_after_s(client.now) == pytest.approx(20)


def test_one_that_was_fine_for_a_window_begins_anew(client):
    client.record(client.half_open(), SUCCESS)
    client.clock.advance(20)
    client.trip()
    assert client.breaker.retry_after_s(client.now) == pytest.approx(10)


def test_more_than_half_of_five_slow_ones_open_it_though_they_succeed():
    client = Client(Rules(slow_s=2.0))
    client.calls(SUCCESS, 2, took_s=1.999)
    client.calls(SUCCESS, 3, took_s=2.0)
    client.clock.advance(1)
    client.calls(SUCCESS, 1, took_s=2.0)
    assert client.state is State.OPEN
    assert client.breaker.reason == "3 of 5 requests took 2 s or more"


def test_four_slow_ones_do_not():
    client = Client(Rules(slow_s=2.0))
    client.calls(SUCCESS, 4, took_s=9)
    client.clock.advance(1)
    client.calls(SUCCESS, 1, took_s=9)
    assert client.state is State.CLOSED


def test_a_slow_trial_has_failed():
    client = Client(Rules(slow_s=2.0))
    client.record(client.half_open(), SUCCESS, took_s=2.0)
    assert client.state is State.OPEN
    assert client.breaker.reason == "a trial was slow"


@pytest.mark.parametrize("took_s", [0.0, 9_999.0])
def test_rejections_count_neither_way(client, took_s):
    client.calls(REJECTED, 100, took_s)
    client.clock.advance(1)
    client.calls(FAILURE, 1)
    assert client.breaker.counts(client.now) == Counts()
    assert client.state is State.CLOSED


def test_a_rejected_trial_decides_nothing(client):
    trial = client.half_open()
    client.record(trial, REJECTED)
    assert client.state is State.HALF_OPEN
    client.clock.advance(3)
    client.record(client.ask(), SUCCESS)
    assert client.state is State.CLOSED


def test_what_was_cut_counts_only_if_it_was_slow():
    client = Client(Rules(slow_s=2.0))
    client.calls(CUT, 100, took_s=1.9)
    assert client.breaker.is_clean(client.now)
    client.calls(CUT, 5, took_s=2.0)
    client.clock.advance(1)
    client.calls(CUT, 1, took_s=2.0)
    assert client.state is State.OPEN


def test_what_began_before_it_opened_has_no_say_later(client):
    early = client.ask()
    client.record(client.half_open(), REJECTED)
    client.record(early, SUCCESS)
    assert client.state is State.HALF_OPEN
    client.record(early, FAILURE)
    assert client.state is State.HALF_OPEN


def test_it_is_clean_only_with_nothing_against_the_peer(client):
    client.calls(SUCCESS, 5)
    assert client.breaker.is_clean(client.now)
    client.calls(FAILURE, 1)
    assert not client.breaker.is_clean(client.now)
    client.clock.advance(60)
    client.calls(SUCCESS, 1)
    assert client.breaker.is_clean(client.now)
    client.trip()
    assert not client.breaker.is_clean(client.now)


def test_the_table_has_every_state_and_every_event_leads_somewhere():
    assert set(TRANSITIONS) == set(State)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


def test_a_breaker_moves_along_every_line_of_the_table(client, monkeypatch):
    seen = set()
    move = LocalBreaker._move

    def watched(breaker, event, now):
        before = breaker.state
        move(breaker, event, now)
        seen.add((before, event, breaker.state))

    monkeypatch.setattr(LocalBreaker, "_move", watched)
    client.record(client.half_open(), FAILURE)
    client.clock.advance(20)
    client.record(client.ask(), SUCCESS)
    assert seen == {
        (state, event, after) for state, row in TRANSITIONS.items() for event, after in row.items()
    }


def test_a_verdict_names_failures_before_slowness():
    assert exceeded(Rules(), Counts(10, 6, 10)) == "6 of 10 requests failed"
    assert exceeded(Rules(), Counts(10, 5, 6)) == "6 of 10 requests took 60 s or more"
    assert exceeded(Rules(), Counts()) == ""


def test_a_phase_is_itself_alone():
    """Outcomes are matched with their phase by identity."""
    assert Phase(State.CLOSED) != Phase(State.CLOSED)


def test_a_bucket_counts_until_it_began_more_than_twenty_seconds_ago(client):
    client.calls(SUCCESS, 1)
    client.clock.advance(20)
    client.calls(SUCCESS, 1)
    assert client.breaker.counts(client.now).requests == 1
    client.clock.advance(0.001)
    assert client.breaker.counts(client.now).requests == 0
