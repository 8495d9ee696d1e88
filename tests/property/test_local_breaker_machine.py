"""The local breaker under every order of requests, outcomes and time, beside a slow, obvious model.

The model keeps every outcome since the breaker closed and works out from that list alone whether it
opens; it knows states and times, and nothing of buckets that are carried along or of phases.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heatshield.resilience.local_breaker import LocalBreaker, Outcome, Rules, State

RULES = Rules(slow_s=2.0)
TOOK_S = st.sampled_from((0.0, 1.9, 2.0, 60.0))
ROUNDING = 1e-9
OUTCOMES = st.sampled_from(tuple(Outcome))


class Model:
    """What the breaker should be, from what was told to it."""

    def __init__(self, now):
        self.state = State.CLOSED
        self.since = now
        self.outcomes = []
        self.next_at = 0.0
        self.row = 0
        self.closed_at = float("-inf")

    def allows(self, now):
        if self.state is State.CLOSED:
            return True
        if now < self.next_at:
            return False
        self.state = State.HALF_OPEN
        self.next_at = now + 3
        return True

    def hear(self, failed, slow, now, chance):
        """An outcome that counts, of a request that was let through since the last change."""
        if self.state is State.HALF_OPEN:
            if failed or slow:
                self.open(now, self.row + 1, chance)
            else:
                self.state, self.since, self.outcomes, self.closed_at = State.CLOSED, now, [], now
        else:
            self.outcomes.append((now, failed, slow))
            if self.trips():
                again = now < self.closed_at + 20
                self.open(now, self.row + 1 if again else 0, chance)

    def open(self, now, row, chance):
        self.state, self.row = State.OPEN, row
        jittered = 10.0 * 2**row * (1 + 0.2 * (2 * chance - 1))
        self.next_at = now + min(300.0, jittered)

    def trips(self):
        """From the whole list: whether the last outcome makes it open."""
        now, failed, slow = self.outcomes[-1]
        began, complete, current = self.since, [], []
        fresh = False
        for at, *what in self.outcomes:
            fresh = at >= began + 1
            if fresh:
                complete.append((began, current))
                began, current = at, []
            current.append(what)
        young = [what for at, bucket in complete if at >= now - 20 for what in bucket]
        failures, slows = sum(f for f, _ in young), sum(s for _, s in young)
        too_many = len(young) >= 10 and failures / len(young) > 0.5
        too_slow = len(young) >= 5 and slows / len(young) > 0.5
        return fresh and (failed or slow) and (too_many or too_slow)


class BreakerMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = 1_000.0
        self.chance = 0.5
        self.breaker = LocalBreaker(RULES, self.now, lambda: self.chance)
        self.model = Model(self.now)
        self.changes = 0  # of the model's state; what was let through before one has no say after
        self.under_way = []
        self.trials = []

    def changed(self, before):
        self.changes += self.model.state is not before

    def ask(self):
        """One request; ``None`` if it is refused."""
        before = self.model.state
        allowed = self.model.allows(self.now)
        self.changed(before)
        phase = self.breaker.allow(self.now)
        assert (phase is not None) == allowed
        if allowed and self.model.state is State.HALF_OPEN:
            self.trials.append(self.now)
        return (phase, self.changes) if allowed else None

    def tell(self, asked, outcome, took_s):
        phase, change = asked
        slow = took_s >= 2.0
        counts = outcome in (Outcome.SUCCESS, Outcome.FAILURE) or (outcome is Outcome.CUT and slow)
        before = self.model.state
        if counts and change == self.changes:
            self.model.hear(outcome is Outcome.FAILURE, slow, self.now, self.chance)
        self.changed(before)
        self.breaker.record(phase, outcome, took_s, self.now)

    @rule(outcome=OUTCOMES, took_s=TOOK_S)
    def call(self, outcome, took_s):
        asked = self.ask()
        if asked is not None:
            self.tell(asked, outcome, took_s)

    @rule(
        count=st.integers(2, 12),
        outcome=st.sampled_from((Outcome.FAILURE, Outcome.SUCCESS)),
        took_s=TOOK_S,
    )
    def burst(self, count, outcome, took_s):
        for _ in range(count):
            self.call(outcome, took_s)

    @rule(took_s=TOOK_S)
    def fail_for_two_seconds(self, took_s):
        """The everyday case, which random walks seldom meet."""
        self.burst(11, Outcome.FAILURE, took_s)
        self.now += 1.0
        self.burst(2, Outcome.FAILURE, took_s)

    @rule()
    def start(self):
        asked = self.ask()
        if asked is not None:
            self.under_way.append(asked)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=OUTCOMES, took_s=TOOK_S)
    def finish(self, data, outcome, took_s):
        """Perhaps long after, perhaps in another state."""
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        self.tell(self.under_way.pop(at), outcome, took_s)

    @rule(seconds=st.sampled_from((0.0, 0.3, 0.5, 1.0, 2.9, 3.0, 20.0, 21.0)))
    def wait(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.model.state is not State.CLOSED)
    @rule(short=st.sampled_from((0.0, 0.001)))
    def wait_for_the_next_trial(self, short):
        self.now = max(self.now, self.model.next_at - short)

    @rule(chance=st.floats(0, 1, exclude_max=True))
    def draw_chance(self, chance):
        self.chance = chance

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def breaker_and_model_agree(self):
        assert self.breaker.state is self.model.state

    @invariant()
    def open_means_refused_for_a_while_that_is_bounded(self):
        left = self.breaker.retry_after_s(self.now)
        assert 0 <= left <= 300 + ROUNDING
        if self.model.state is not State.CLOSED:
            assert left == max(0.0, self.model.next_at - self.now)

    @invariant()
    def trials_are_three_seconds_apart(self):
        pairs = zip(self.trials, self.trials[1:], strict=False)
        assert all(later - earlier >= 3 - ROUNDING for earlier, later in pairs)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
