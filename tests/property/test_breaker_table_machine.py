"""The breaker table under every order of snapshots, deltas, renewals, losses and time.

A model collector holds the truth and remembers what it granted at which version; the table may
receive any of its messages late, twice or never. Invariants by their numbers in the design.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heatshield.breakers.lease_table import Applied, BreakerTable, Reason
from heatshield.contract import (
    RAMP_S,
    BreakerEntry,
    ContractError,
    Delta,
    PlatformMode,
    Snapshot,
    StateVersion,
)

USERS = ("u-1", "u-2")
CALLS = ("GET /a", "POST /b")
LEASES_MS = (5_000, 30_000)


class TableMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.now = 1_000.0
        self.chance = 0.0
        self.table = BreakerTable("shop", chance=lambda: self.chance)
        self.state = Snapshot(StateVersion(1, 0), PlatformMode.PROTECT)
        self.sent = [self.state]
        self.answered_at = float("-inf")
        self.seen = [None]

    # -- the collector ---------------------------------------------------------------------------

    @rule(
        user=st.sampled_from(USERS),
        call=st.sampled_from(CALLS),
        lease_ms=st.sampled_from(LEASES_MS),
        mode=st.sampled_from(PlatformMode),
    )
    def grant(self, user, call, lease_ms, mode):
        granted = BreakerEntry(f"b-{user}-{call}", user, "shop", call, lease_ms=lease_ms)
        others = tuple(e for e in self.state.entries if e.id != granted.id)
        self.change((*others, granted), mode, (granted,), ())

    @precondition(lambda self: self.state.entries)
    @rule(data=st.data())
    def withdraw(self, data):
        gone = data.draw(st.sampled_from(self.state.entries))
        rest = tuple(e for e in self.state.entries if e.id != gone.id)
        self.change(rest, self.state.mode, (), (gone.id,))

    @rule()
    def restart(self):
        at = StateVersion(self.state.at.epoch + 1, 0)
        self.state = Snapshot(at, self.state.mode, self.state.entries)
        self.sent.append(self.state)

    def change(self, entries, mode, upsert, remove):
        base = self.state.at
        at = StateVersion(base.epoch, base.version + 1)
        self.state = Snapshot(at, mode, entries)
        self.sent += [Delta(base, at, mode, upsert, remove), self.state]

    @rule(
        user=st.sampled_from(USERS), call=st.sampled_from(CALLS), lease=st.sampled_from(LEASES_MS)
    )
    def trip_while_connected(self, user, call, lease):
        """The everyday case: granted, fetched at once, enforced."""
        self.grant(user, call, lease, PlatformMode.PROTECT)
        self.table.apply(self.state, self.now)
        self.answered_at = max(self.answered_at, self.now)
        self.seen.append(self.table.at)

    # -- the network and time --------------------------------------------------------------------

    @rule(data=st.data(), ago=st.floats(0, 20))
    def deliver(self, data, ago):
        """Any message ever sent arrives, perhaps late, perhaps again."""
        message = data.draw(st.sampled_from(self.sent))
        held, whole = self.table.at, isinstance(message, Snapshot)
        sent_at = self.now - ago if whole else self.answered_at
        if held is not None and message.at <= held:
            expected = Applied.RENEWED if whole and message.at == held else Applied.STALE
        else:  # invariant 4: a delta on another base is a gap
            expected = Applied.CHANGED if whole or message.base == held else Applied.GAP
        assert self.table.apply(message, sent_at) is expected
        if whole and expected is not Applied.STALE:
            self.answered_at = max(self.answered_at, sent_at)
        self.seen.append(self.table.at)

    @rule(data=st.data(), ago=st.floats(0, 20))
    def renew(self, data, ago):
        at = data.draw(st.sampled_from([m.at for m in self.sent]))
        expected = Applied.RENEWED if at == self.table.at else Applied.STALE
        assert self.table.renewed(at, self.now - ago) is expected
        if expected is Applied.RENEWED:
            self.answered_at = max(self.answered_at, self.now - ago)

    @rule(data=st.data(), beyond=st.sampled_from((0.0, RAMP_S / 2, RAMP_S)))
    def wait_for_an_edge(self, data, beyond):
        """To where a lease or its ramp ends: that is where mistakes live."""
        lease_s = data.draw(st.sampled_from(LEASES_MS)) / 1000
        self.now = max(self.now, self.answered_at + lease_s + beyond)

    @rule(seconds=st.floats(0, 45))
    def wait(self, seconds):
        self.now += seconds

    @rule(value=st.floats(0, 1, exclude_max=True))
    def draw_chance(self, value):
        self.chance = value

    @rule(on=st.booleans())
    def switch(self, on):
        self.table.enforce = on

    @rule(
        data=st.data(),
        garbage=st.dictionaries(
            st.text(), st.integers() | st.text() | st.none() | st.lists(st.text())
        ),
        key=st.sampled_from(("mode", "entries", "version", "epoch")),
    )
    def receive_garbage(self, data, garbage, key):
        """Invariant 11: what is malformed is refused before the table sees it."""
        document = self.state.to_json() | garbage
        document[key] = data.draw(st.none() | st.text() | st.lists(st.integers(), min_size=1))
        before = (self.table.at, self.table.entries)
        try:
            Snapshot.from_json(document)
        except ContractError:
            assert (self.table.at, self.table.entries) == before
        else:
            raise AssertionError(f"accepted {key}={document[key]!r}")

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def enforced_means_granted(self):
        """Invariants 1 and 2: exactly that key, by the version held, within lease and ramp."""
        held = next(
            (m for m in self.sent if isinstance(m, Snapshot) and m.at == self.table.at), None
        )
        for user in USERS:
            for call in CALLS:
                decision = self.table.decide(user, call, self.now)
                if decision.allowed:
                    continue
                assert held is not None
                grant = next(e for e in held.entries if (e.user, e.call) == (user, call))
                assert self.table.enforce
                assert held.mode is PlatformMode.PROTECT
                assert self.now < self.answered_at + grant.lease_ms / 1000 + RAMP_S

    @invariant()
    def granted_and_fresh_means_enforced(self):
        """The other way round: a table that refused nothing would pass everything above."""
        if not self.table.enforce or self.table.mode is not PlatformMode.PROTECT:
            return
        for granted in self.table.entries:
            if self.now < self.answered_at + granted.lease_ms / 1000:
                decision = self.table.decide(granted.user, granted.call, self.now)
                assert decision.reason is Reason.REJECTED

    @invariant()
    def versions_never_go_back(self):
        """Invariant 3."""
        seen = [at for at in self.seen if at is not None]
        assert seen == sorted(seen)

    @invariant()
    def table_is_what_the_collector_said(self):
        """A chain of deltas leads to the same entries as the snapshot of that version."""
        for message in self.sent:
            if isinstance(message, Snapshot) and message.at == self.table.at:
                assert {e.id: e for e in self.table.entries} == {e.id: e for e in message.entries}


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
