"""What linking remembers: seen spans, whose request it is, charges that wait for their user."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from span_rows import START_NS

from heatshield_collector.link import pending
from heatshield_collector.link.duplicates import HORIZON_NS, SeenSpans
from heatshield_collector.link.identity import GENERATION_NS, RequestUsers
from heatshield_collector.link.pending import (
    CHARGES_MOST,
    PATIENCE_NS,
    TRANSFER_NS,
    Charge,
    PendingCharges,
    Settled,
)

S = 10**9

# -- seen spans ---------------------------------------------------------------------------------

batches = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 100 * S, HORIZON_NS - 1, HORIZON_NS]),  # pause before it
        st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=8),
    ),
    max_size=20,
)


def fresh(seen, keys, now_ns):
    return seen.fresh(np.array(keys, dtype=np.uint64), now_ns).tolist()


@given(batches)
def test_no_span_is_fresh_twice_within_the_horizon(steps):
    seen, last, now_ns = SeenSpans(log2_bits=20), {}, START_NS
    for pause_ns, keys in steps:
        now_ns += pause_ns
        for key, is_fresh in zip(keys, fresh(seen, keys, now_ns), strict=True):
            if is_fresh:
                assert key not in last or now_ns - last[key] >= HORIZON_NS
                last[key] = now_ns


@given(batches)
def test_every_span_is_counted_as_fresh_or_as_a_duplicate(steps):
    seen, now_ns, count = SeenSpans(log2_bits=20), START_NS, 0
    for pause_ns, keys in steps:
        now_ns += pause_ns
        count += len(keys) - sum(fresh(seen, keys, now_ns))
    assert seen.duplicates == count


def test_a_span_that_comes_twice_in_one_batch_is_fresh_where_it_stands_first():
    seen = SeenSpans(log2_bits=20)
    assert fresh(seen, [5, 7, 5, 5, 7], START_NS) == [True, True, False, False, False]
    assert fresh(seen, [7, 8, 5], START_NS) == [False, True, False]


def test_a_span_is_remembered_when_its_generation_is_closed():
    seen = SeenSpans(log2_bits=20, least=0)
    assert fresh(seen, [4], START_NS) == [True]
    assert fresh(seen, [5], START_NS + HORIZON_NS - 1) == [True]
    assert fresh(seen, [4, 5], START_NS + HORIZON_NS) == [False, False]


def test_a_span_is_forgotten_after_two_horizons():
    seen = SeenSpans(log2_bits=20, least=0)
    assert fresh(seen, [5], START_NS) == [True]
    assert fresh(seen, [6], START_NS + HORIZON_NS) == [True]
    assert fresh(seen, [5], START_NS + 2 * HORIZON_NS) == [True]


def test_few_spans_are_remembered_however_long_ago():
    seen, day_ns = SeenSpans(log2_bits=20, least=4), 86_400 * 10**9
    assert fresh(seen, [5], START_NS) == [True]
    assert fresh(seen, [6, 5], START_NS + day_ns) == [True, False]
    assert fresh(seen, [7, 8], START_NS + 2 * day_ns) == [True, True]
    assert fresh(seen, [9], START_NS + 3 * day_ns) == [True]  # there are enough: it was closed
    assert fresh(seen, [5], START_NS + 3 * day_ns) == [False]


def test_what_was_charged_before_is_seen_and_no_re_delivery():
    seen = SeenSpans(log2_bits=20)
    seen.remember(np.array([4, 5], dtype=np.uint64))
    assert seen.duplicates == 0
    assert fresh(seen, [4, 6], START_NS) == [False, True]


def test_false_positives_are_as_rare_as_promised():
    """Full generations at a 256th of the size: at most 2 x 0.2 % of new spans look seen."""
    seen = SeenSpans(log2_bits=20, most=62_500)
    rng = np.random.default_rng(7)
    keys = rng.integers(0, 2**63, 250_000, dtype=np.uint64)
    found = [seen.fresh(part, START_NS) for part in np.split(keys, 500)]
    wrong = np.concatenate(found)[125_000:]
    assert 1 - wrong.mean() < 0.004
    assert seen.shortened == 3  # and the horizon that this costs is said


def test_ids_that_are_counted_up_are_no_more_mistaken_than_random_ones():
    seen = SeenSpans(log2_bits=20, most=62_500)
    found = [seen.fresh(np.arange(at, at + 500, dtype=np.uint64), START_NS)
             for at in range(0, 60_000, 500)]  # fmt: skip
    assert 1 - np.concatenate(found).mean() < 0.004


# -- whose request it is ------------------------------------------------------------------------

named = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=12
)


@given(named, st.data())
def test_the_lowest_rank_wins_and_disagreement_shows_whatever_the_order(rows, data):
    users, at = RequestUsers(), 0
    shuffled = data.draw(st.permutations(rows))
    while at < len(shuffled):
        size = data.draw(st.integers(1, len(shuffled)))
        users.learn(shuffled[at : at + size], START_NS)
        at += size
    for trace in (1, 2, 3):
        said = [(rank, user) for of, user, rank in rows if of == trace]
        known = users.of(trace)
        if not said:
            assert known is None
        else:
            assert (known.rank, known.user) == min(said)
            assert known.conflict == (len({user for _, user in said}) > 1)


@given(st.lists(st.integers(0, 50 * S), min_size=1, max_size=12))
def test_a_user_is_remembered_for_a_minute_after_its_last_naming(pauses):
    users, now_ns, named_ns = RequestUsers(), START_NS, None
    for number, pause_ns in enumerate(pauses):
        now_ns += pause_ns
        if number % 3 == 0:
            users.learn([(1, "u", 0)], now_ns)
            named_ns = now_ns
        else:
            users.learn([(2, "v", 0)], now_ns)
        if now_ns - named_ns < GENERATION_NS:
            assert users.of(1).user == "u"


def test_a_conflict_outlives_the_generation_it_was_found_in():
    users = RequestUsers()
    users.learn([(1, "a", 0), (1, "b", 2)], START_NS)
    users.learn([(1, "a", 0)], START_NS + GENERATION_NS)
    users.learn([(2, "c", 0)], START_NS + 2 * GENERATION_NS)
    assert users.of(1).conflict


def test_a_full_generation_is_closed_early_and_that_is_counted():
    users = RequestUsers(most=10)
    for trace in range(100):
        users.learn([(trace, "u", 0)], START_NS)
        assert len(users._young) + len(users._old) <= 20
    assert users.shortened == 9
    assert users.of(99).user == "u"
    assert users.of(0) is None


# -- charges that wait for their user -----------------------------------------------------------


def charge(trace, number):
    return Charge(trace, "shop", "POST /p", None, "POST /p", number, 0, 1, 0, b"", 0, 0, None, None)


class WaitingCharges(RuleBasedStateMachine):
    """Each charge is told apart by its number; the model is what the module's head says."""

    def __init__(self):
        super().__init__()
        self.held = PendingCharges()
        self.now_ns = START_NS
        self.waiting = {}  # number -> (trace, since)
        self.given_up = {}
        self.settled = Counter()
        self.numbers = 0

    @rule(trace=st.integers(1, 4), count=st.integers(1, 3))
    def hold(self, trace, count):
        since_ns = min(
            (since for of, since in self.waiting.values() if of == trace), default=self.now_ns
        )
        fresh = range(self.numbers, self.numbers + count)
        self.numbers += count
        self.held.hold([charge(trace, number) for number in fresh], self.now_ns)
        self.waiting |= dict.fromkeys(fresh, (trace, since_ns))

    @rule(pause_ns=st.sampled_from([S // 2, PATIENCE_NS, 10 * S, TRANSFER_NS]))
    def wait(self, pause_ns):
        self.now_ns += pause_ns

    @rule()
    def give_up(self):
        settled = self.held.give_up(self.now_ns)
        due = {
            number for number, (_, since) in self.waiting.items()
            if since <= self.now_ns - PATIENCE_NS
        }  # fmt: skip
        assert Counter(one.charge.busy_us for one in settled) == Counter(due)
        assert all(one.user is None and not one.eligible for one in settled)
        renewed = {self.waiting[number] for number in due}
        for number in due:
            self.given_up[number] = self.waiting.pop(number)
            self.settled[number, None] += 1
        for trace, since_ns in renewed:  # what was given up before is kept as long as the newest
            for number, (of, _) in self.given_up.items():
                if of == trace:
                    self.given_up[number] = (trace, since_ns)
        for number, (_, since) in list(self.given_up.items()):
            if since <= self.now_ns - TRANSFER_NS:
                del self.given_up[number]

    @precondition(lambda self: self.numbers)
    @rule(trace=st.integers(1, 4), eligible=st.booleans())
    def resolve(self, trace, eligible):
        self.give_up()  # as the linker does before it
        settled = self.held.resolve(trace, "u", eligible=eligible)
        waited = {number for number, (of, _) in self.waiting.items() if of == trace}
        moved = {number for number, (of, _) in self.given_up.items() if of == trace}
        assert Counter(one.charge.busy_us for one in settled) == Counter([*waited, *moved])
        for one in settled:
            late = one.charge.busy_us in moved
            assert (one.user, one.eligible, one.transferred) == ("u", eligible and not late, late)
            self.settled[one.charge.busy_us, "u"] += 1
        for number in waited | moved:
            self.waiting.pop(number, None)
            self.given_up.pop(number, None)

    @invariant()
    def nothing_is_settled_twice_and_nothing_is_lost(self):
        assert all(count == 1 for count in self.settled.values())
        settled = {number for number, _ in self.settled}
        assert settled | self.waiting.keys() == set(range(self.numbers))
        assert not any(self.held.dropped.values())


TestWaitingCharges = WaitingCharges.TestCase


def test_too_many_traces_let_go_of_transfers_first_then_of_the_oldest_and_count_both():
    """What is let go before its user is known is charged to no user there and then."""
    held = PendingCharges(traces_most=3)
    held.hold([charge(trace, trace) for trace in (1, 2)], START_NS)
    later_ns = START_NS + PATIENCE_NS
    assert len(held.give_up(later_ns)) == 2
    settled = held.hold([charge(trace, trace) for trace in (3, 4, 5, 6)], later_ns)
    assert settled == [Settled(charge(3, 3), None, eligible=False)]
    assert len(held) == 3
    assert held.dropped == {"traces": 1, "spans": 0, "transfers": 2}
    found = [held.resolve(trace, "u", eligible=True) for trace in range(1, 7)]
    assert [len(one) for one in found] == [0, 0, 0, 1, 1, 1]


def test_one_trace_keeps_no_more_charges_than_it_may_and_says_how_many_it_lost():
    held = PendingCharges()
    extra = held.hold((charge(1, number) for number in range(CHARGES_MOST + 5)), START_NS)
    assert [one.user for one in extra] == [None] * 5
    assert held.dropped == {"traces": 0, "spans": 5, "transfers": 0}
    assert len(held.resolve(1, "u", eligible=True)) == CHARGES_MOST


def test_a_trace_that_never_names_its_user_piles_up_no_transfers():
    held, now_ns = PendingCharges(), START_NS
    for _ in range(5):
        held.hold((charge(1, number) for number in range(CHARGES_MOST)), now_ns)
        now_ns += PATIENCE_NS
        held.give_up(now_ns)
    assert held.dropped["transfers"] == 4 * CHARGES_MOST
    assert len(held.resolve(1, "u", eligible=True)) == CHARGES_MOST


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), max_size=30))
def test_all_traces_together_keep_no_more_charges_than_memory_allows_and_lose_none(rows):
    """Many traces of many spans are what would fill 64 MiB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "CHARGES_IN_ALL", 10)
        held, now_ns, settled = PendingCharges(), START_NS, []
        for trace, count in rows:
            settled += held.hold([charge(trace, 0)] * count, now_ns)
            kept = [*held._waiting.values(), *held._given_up.values()]
            assert sum(len(one.charges) for one in kept) <= 10
            now_ns += S
            settled += held.give_up(now_ns)
        for trace in range(1, 10):
            settled += held.resolve(trace, "u", eligible=True)
        charged = [one for one in settled if not one.transferred]
        assert len(charged) == sum(count for _, count in rows)
