"""What holds of the registry whatever is done to it, in any order, at any time."""

from collections import Counter
from collections.abc import Collection

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import (
    BreakerMode,
    Delta,
    PlatformMode,
    Rejections,
    Report,
    Snapshot,
)
from heatshield_alerts import (
    BreakerControl,
    BreakerState,
    Change,
    ChangeKind,
    Draft,
    Reason,
    Refuse,
    Trip,
)
from heatshield_alerts.breaker_states import TRANSITIONS
from heatshield_alerts.caps import FEW, Caps
from heatshield_alerts.restraint import HOLD_DOWN_S, MAX_MOVES, MOVES_WINDOW_S, REFUSAL_REPEAT_S
from heatshield_alerts.seen import Seen

CAPS = Caps(entries=5, user_share=0.01, new_per_minute=4)
"""Small, so that random histories reach them."""

users = st.sampled_from(["a", "b", "c", "d", "unknown", "*", "", None])
drafts = st.builds(
    Draft,
    key=st.builds(
        CallKey,
        st.just(DEFAULT_TENANT),
        users,
        st.sampled_from(["s", "t"]),
        st.sampled_from(["x", "y"]),
    ),
    issuer=st.sampled_from(["rule:R", "rule:S", "human:ann", "ingest"]),
    mode=st.sampled_from(BreakerMode),
    then=st.sampled_from([None, BreakerMode.REJECT]),
    budget=st.sampled_from([0.0, 0.5]),
    traffic=st.sampled_from([0.0, 0.06, 0.5]),
    lease_ms=st.sampled_from([None, 1, 5_000, 900_000, 0, 900_001]),
    rate_per_s=st.sampled_from([0.0, 2.0]),
    threshold=st.sampled_from([0.0, 0.5, 3.0]),
    cost_per_call=st.sampled_from([0.0, 0.1]),
    load=st.sampled_from([0.0, 1.0, 4.0]),
)
active = st.sampled_from([0, 100, 250, 10_000])


class Client:
    """What a client makes of what it is sent: through the contract's own parser, nothing else."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.restart(snapshot)

    def restart(self, snapshot: Snapshot) -> None:
        snapshot = Snapshot.from_json(snapshot.to_json())
        self.at, self.mode = snapshot.at, snapshot.mode
        self.entries = {entry.id: entry for entry in snapshot.entries}

    def follow(self, delta: Delta) -> None:
        delta = Delta.from_json(delta.to_json())
        assert delta.base == self.at
        self.at, self.mode = delta.at, delta.mode
        self.entries |= {entry.id: entry for entry in delta.upsert}
        for entry_id in delta.remove:
            del self.entries[entry_id]  # only what the client has is taken away


class Registry(RuleBasedStateMachine):
    @initialize(mode=st.sampled_from(PlatformMode))
    def start(self, mode: PlatformMode):
        self.now = 100.0
        self.control = BreakerControl(7, mode, CAPS)
        self.done: list[Change] = []
        self.asked: list[tuple[CallKey, Change]] = []
        self.client = Client(self.control.snapshot())
        self.version = self.control.at
        self.human_keys: dict[tuple, float] = {}

    def note(self, change: Change, *, is_last: bool = True) -> Change:
        """What is true of each change alone; several may be made at once."""
        self.done.append(change)
        if change.is_visible:
            assert change.at.version == self.version.version + 1
            self.version = change.at
        assert not is_last or self.control.at == self.version
        if change.event is not None:
            assert change.after is TRANSITIONS[change.before][change.event]
        return change

    @rule(draft=drafts, active_users=active)
    def trip(self, draft: Draft, active_users: int):
        made_room = self.control.make_room(Trip(draft), self.now, active_users)
        for left in made_room:
            self.note(left, is_last=left is made_room[-1])
            assert not left.entry.issuer.startswith("human:")
            assert left.entry.user != draft.key.user
        held = {row.key: row for row in self.control.held}.get(draft.key)
        held_up = [
            row
            for row in self.control.held
            if not row.draft.by_human and row.draft.mode is not BreakerMode.FLAG
        ]
        refused = {row.key.user for row in held_up if row.draft.mode is not BreakerMode.PACE}
        change = self.note(self.control.act(Trip(draft), self.now, active_users))
        self.asked.append((draft.key, change))
        if change.kind is ChangeKind.REFUSED:
            assert change.reason is not None
            assert not made_room, "for nothing"
            return
        assert draft.key.user not in ("", None)
        assert draft.issuer != "ingest"
        if held is None:
            cleared_s = self.human_keys.get(draft.key, -HOLD_DOWN_S)
            assert draft.by_human or self.now - cleared_s >= HOLD_DOWN_S
            if not draft.by_human and draft.mode is not BreakerMode.FLAG:
                users = {row.key.user for row in held_up} | {draft.key.user}
                assert len(users) <= CAPS.users(active_users, FEW)
                if draft.mode is not BreakerMode.PACE:
                    assert len(refused | {draft.key.user}) <= CAPS.users(active_users)

    @rule(draft=drafts)
    def refuse(self, draft: Draft):
        change = self.note(self.control.act(Refuse(Reason.COLD_START, draft), self.now))
        self.asked.append((draft.key, change))
        assert change.kind is ChangeKind.REFUSED

    @rule(index=st.integers(0, 10))
    def clear(self, index: int):
        entries = self.control.snapshot().entries
        name = entries[index].id if index < len(entries) else "b-0-0"
        change = self.note(self.control.clear(name, "ann", self.now))
        if index < len(entries):
            entry = entries[index]
            self.human_keys[entry.key] = self.now
            assert change.kind is ChangeKind.CLEARED

    @rule(
        seconds=st.sampled_from([0.0, 0.25, 1.0, 6.0, 11.0, 61.0, 601.0, 901.0]),
        load=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
        rules=st.sampled_from([None, (), ("R",)]),
    )
    def pass_time(self, seconds: float, load: float, rules: Collection[str] | None):
        self.now += seconds
        keys = [row.key for row in self.control.held]
        harming = dict.fromkeys(keys if load else (), "it harms others")
        seen = Seen(dict.fromkeys(keys, load), harming, harming, rules)
        for change in self.control.tick(self.now, seen):
            self.note(change, is_last=False)

    @rule(mode=st.sampled_from(PlatformMode))
    def set_mode(self, mode: PlatformMode):
        change = self.control.set_mode(mode, "human:ann", self.now)
        if change is not None:
            self.note(change)

    @rule(count=st.integers(0, 50))
    def report(self, count: int):
        rows = tuple(
            Rejections(entry.id, count, entry.user, entry.service, entry.call)
            for entry in self.control.snapshot().entries
        )
        before = self.control.at
        self.control.report(Report("s", "i", 1, self.client.at, rows), self.now)
        assert self.control.at == before

    @rule()
    def follow(self):
        """A client that asks now and then has what the server has, by deltas or a snapshot."""
        if self.client.at != self.control.at:
            delta = self.control.delta_since(self.client.at)
            if delta is None:
                self.client.restart(self.control.snapshot())
            else:
                self.client.follow(delta)
        fresh = Client(self.control.snapshot())
        assert vars(self.client) == vars(fresh)

    @invariant()
    def entries_are_within_their_cap_and_each_key_has_one(self):
        held = self.control.held
        assert len(held) <= CAPS.entries
        assert len({row.entry.id for row in held}) == len(held)
        assert all(row.state is not BreakerState.CLOSED for row in held)

    @invariant()
    def new_entries_are_within_their_cap_in_each_minute(self):
        opened = [
            row.at_s
            for row in self.done
            if row.kind is ChangeKind.OPENED and row.before is BreakerState.CLOSED
        ]
        for start in opened:
            assert sum(start <= at_s <= start + 60.0 for at_s in opened) <= CAPS.new_per_minute

    @invariant()
    def no_key_moves_too_often(self):
        recent = Counter(
            row.entry.key
            for row in self.done
            if row.before is not row.after and self.now - row.at_s <= MOVES_WINDOW_S
        )
        assert all(count <= MAX_MOVES for count in recent.values())

    @invariant()
    def what_clients_see_is_recorded_and_so_is_every_refusal_that_is_news(self):
        """But for the quota of probes, which is handed on and doubled every two seconds."""
        moved = [row for row in self.done if row.event is not None or row.before is not row.after]
        assert all(row.is_recorded for row in moved if row.is_visible)
        refused_s: dict[tuple, float] = {}
        for key, row in self.asked:
            if row.kind is not ChangeKind.REFUSED:
                continue
            name = (key, row.reason)
            last_s = refused_s.get(name, row.at_s - REFUSAL_REPEAT_S)
            assert row.is_recorded is (row.at_s - last_s >= REFUSAL_REPEAT_S)
            if row.is_recorded:
                refused_s[name] = row.at_s

    @invariant()
    def the_states_follow_from_the_recorded_changes(self):
        """Replaying the audit gives what is held."""
        entries = {}
        for row in self.done:
            if not row.is_visible or row.entry is None:
                continue
            if row.after is BreakerState.CLOSED:
                del entries[row.entry.id]
            else:
                entries[row.entry.id] = (row.entry, row.after)
        assert entries == {row.entry.id: (row.entry, row.state) for row in self.control.held}

    @invariant()
    def nothing_is_held_past_its_time(self):
        for row in self.control.held:
            assert row.entry.lease_ms <= 900_000
            assert row.hold_s <= 900.0


Registry.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRegistry = Registry.TestCase
