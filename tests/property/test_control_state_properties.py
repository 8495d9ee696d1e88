"""Whatever was done to the registry, the next one holds on exactly what it held."""

import json
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant, ManualClock
from heatshield.contract import BreakerMode, EntryScope, Rejections, Report, Snapshot
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.draft import Draft
from heatshield_alerts.restraint import MOVES_WINDOW_S, Restraint
from heatshield_alerts.seen import Seen
from heatshield_alerts.trip_policy import Trip
from heatshield_collector.control.state_file import KeptState, decode, encode

CAPS = Caps(entries=8, new_per_minute=6)
"""Small, so that random histories reach them."""

USERS = ("a", "李", "unknown", "*")
TEXTS = st.sampled_from(["", "r", "é \ud800 \u202e \x00"])
KEYS = [CallKey(DEFAULT_TENANT, user, "s", call) for user in USERS for call in ("x", "y")]
WIDE = [
    (EntryScope.USER_SERVICE, CallKey(DEFAULT_TENANT, "a", "s", "")),
    (EntryScope.CALL, CallKey(DEFAULT_TENANT, None, "s", "x")),
    (EntryScope.TENANT_CALL, CallKey(DEFAULT_TENANT, None, "s", "x")),
    (EntryScope.PATTERN, CallKey(DEFAULT_TENANT, "a*", "s", "?")),
]
DOWN_S = st.sampled_from([0.0, 0.25, 7.0, 61.0, 599.0, 601.0, 899.0, 901.0])

drafts = st.builds(
    lambda scoped, **fields: Draft(scoped[1], scope=scoped[0], **fields),
    st.sampled_from([(EntryScope.USER_CALL, key) for key in KEYS] + WIDE),
    issuer=st.sampled_from(["rule:R", "rule:S", "human:ann"]),
    mode=st.sampled_from(BreakerMode),
    lease_ms=st.sampled_from([None, 5_000, 30_000, 900_000]),
    rate_per_s=st.sampled_from([0.0, 2.0]),
    reason=TEXTS,
    evidence=st.sampled_from([{}, {"load": 1 / 3, "trace_ids": ["aa"]}]),
    threshold=st.sampled_from([0.0, 0.5, 3.0]),
    cost_per_call=st.sampled_from([0.0, 0.1]),
    load=st.sampled_from([0.0, 1.0, 4.0]),
    budget=st.sampled_from([0.25, 2 / 3]),
    waiting=st.sampled_from([0, 8]),
    then=st.sampled_from([None, BreakerMode.REJECT]),
    grant_ms=st.sampled_from([None, 10_000]),
    probe_per_s=st.sampled_from([1.0, 0.5]),
    traffic=st.sampled_from([0.0, 0.01]),
)


def unseen(control):
    """Each entry as clients see it, but for the version of its last change."""
    return [replace(entry, seq=0) for entry in control.snapshot().entries]


def answers(restraint: Restraint, now_s: float):
    """What is remembered so as to do less, asked of every key."""
    keys = [*KEYS, *(key for _, key in WIDE)]
    moves = [
        sum(now_s - at_s <= MOVES_WINDOW_S for at_s in restraint._moves.get(key, ()))
        for key in keys
    ]
    return (
        moves,  # so many that none may follow are rare
        [restraint.damping(key, now_s).openings for key in keys],
        [(restraint.may_open(key, now_s), restraint.is_held_down(key, now_s)) for key in keys],
        restraint.opened_last_minute(now_s),
    )


class Restarts(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.clock = ManualClock()
        self.control = BreakerControl(7, caps=CAPS)

    @property
    def now_s(self) -> float:
        return self.clock.monotonic()

    @rule(draft=drafts)
    def trip(self, draft: Draft):
        self.control.act(Trip(draft), self.now_s, 10_000)

    @rule(index=st.integers(0, 7))
    def clear(self, index: int):
        entries = self.control.snapshot().entries
        if index < len(entries):
            self.control.clear(entries[index].id, "ann", self.now_s)

    @rule(
        seconds=st.sampled_from([0.25, 1.0, 3.0, 11.0, 61.0, 601.0]),
        load=st.sampled_from([0.0, 0.3, 5.0]),
        hot=st.sampled_from([0, 1]),
    )
    def pass_time(self, seconds: float, load: float, hot: int):
        self.clock.advance(seconds)
        keys = [row.key for row in self.control.held]
        seen = Seen(dict.fromkeys(keys, load), lasting=dict.fromkeys(keys, "r") if hot else {})
        self.control.tick(self.now_s, seen)

    @rule(count=st.integers(0, 50))
    def report(self, count: int):
        rows = tuple(
            Rejections(entry.id, count, entry.user, entry.service, entry.call)
            for entry in self.control.snapshot().entries
        )
        self.control.report(Report("s", "i", 1, self.control.at, rows), self.now_s)

    def restored(self, seconds: float) -> tuple[BreakerControl, Instant]:
        """What the next collector holds, after so much time, and on a clock of its own."""
        kept = encode(KeptState(7, self.control.keep(self.clock.now())))
        self.clock.advance(seconds)
        now = Instant(17.0, self.clock.time_ns())
        again = BreakerControl(self.control.at.epoch + 1, caps=CAPS)
        again.restore(KeptControl(decode(kept).control), now)
        return again, now

    @invariant()
    def the_next_one_holds_all_of_it_and_for_as_long(self):
        again, now = self.restored(0.0)
        assert unseen(again) == unseen(self.control)
        for then, before in zip(again.held, self.control.held, strict=True):
            assert (then.state, then.draft) == (
                before.state,
                replace(before.draft, **then_text(then)),
            )
            for name in ("since_s", "granted_s"):
                assert same(self.now_s, getattr(before, name), now, getattr(then, name))
            assert same(self.now_s, before.demand.low_since_s, now, then.demand.low_since_s)
            assert abs(then.left_s(now.monotonic_s) - before.left_s(self.now_s)) < 1e-6
        assert answers(again._restraint, now.monotonic_s) == answers(
            self.control._restraint, self.now_s
        )

    @rule(seconds=DOWN_S)
    def restart(self, seconds: float):
        """Later all of it is there but what is over; and life goes on in the next one."""
        lasting = [
            replace(row.entry, seq=0)
            for row in self.control.held
            if row.left_s(self.now_s) - seconds > 1e-6
        ]
        restraint = self.control._restraint
        again, now = self.restored(seconds)
        assert unseen(again) == lasting
        assert answers(again._restraint, now.monotonic_s) == answers(restraint, self.now_s)
        sent = json.loads(json.dumps(again.snapshot().to_json()))
        assert Snapshot.from_json(sent) == again.snapshot()
        self.control = again
        self.clock = ManualClock(now.monotonic_s, now.epoch_ns)


def then_text(held):
    """An entry that was renewed says why it was granted; its draft, why it was asked for last."""
    return {"reason": held.draft.reason, "evidence": held.draft.evidence}


def same(before_s, at_s, now, then_s):
    """Whether two moments lie as far back, to a microsecond."""
    if at_s is None or then_s is None:
        return at_s is then_s
    return abs((before_s - at_s) - (now.monotonic_s - then_s)) < 1e-6


Restarts.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestRestarts = Restarts.TestCase
