"""The breaker protocol end to end, on a clock that is moved by hand.

The collector's breaker state, its HTTP routes and the bytes of its stream, the clients' followers
and tables are the real ones; only sockets and threads are left out. The invariants are those of the
explicit-state search.
"""

import json

from breaker_model.collector import Collector
from breaker_model.forking import fork
from breaker_model.invariants import View, broken
from breaker_model.ledger import Ledger, Probe
from breaker_model.world import ACTIVE_USERS, KEYS, NOBODY, SERVICE, draft_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heatshield.breakers.decision import Reason
from heatshield.breakers.follow import Follower
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.server_sent_events import Events
from heatshield.clock import ManualClock
from heatshield.contract import HEARTBEAT_S, BreakerMode, ContractError
from heatshield.export.answer import Answer, Unreachable
from heatshield.names import BREAKERS_PATH
from heatshield_alerts.caps import Caps
from heatshield_alerts.seen import Seen
from heatshield_alerts.trip_policy import Trip

CAPS = Caps(entries=5, new_per_minute=4)
clients = st.integers(0, 1)
keys = st.integers(0, 1)
hots = st.sets(keys)


class Client:
    """A process: the real follower and table, on a connection that does as it is told."""

    def __init__(self, machine: "Protocol", n: int, run: int) -> None:
        self.n, self.name, self._machine = n, f"i-{n}.{run}", machine
        self.run = run
        self.table = BreakerTable(SERVICE, chance=lambda: 0.0, instance=lambda: self.name)
        self.follower = Follower(
            "http://collector",
            self.table,
            machine.clock,
            service=SERVICE,
            instance=lambda: self.name,
            workers=1,
        )
        self.follower._connection = self.follower._reports._connection = self
        self.open_stream()

    def open_stream(self) -> None:
        self.opened_at, self.sent = self._machine.clock.monotonic(), self.table.at
        self.events, self.late = Events(), b""

    def request(self, method: str, path: str, *, body=None, headers=None, **_) -> Answer:
        """As :meth:`heatshield.export.connection.Connection.request`."""
        machine = self._machine
        lost, before_s, after_s = machine.weather
        sent_at = machine.clock.monotonic()
        machine.clock.advance(before_s)
        if lost == "request":
            raise Unreachable("lost")
        answer = machine.collector.ask(method, path, body, headers)
        machine.clock.advance(after_s)
        if lost == "answer":
            raise Unreachable("no answer came", is_there=True)
        machine.ledger = machine.ledger.answered(self.n, sent_at)
        return answer

    def hear(self, payload: bytes) -> None:
        """Bytes of the stream arrive; on any failure the stream is opened anew, as Watch does."""
        machine = self._machine
        machine.ledger = machine.ledger.answered(self.n, self.opened_at)
        try:
            for event in self.events.feed(payload):
                self.follower._take(event, self.opened_at)
        except (Unreachable, ContractError):
            self.open_stream()

    def keep_up(self) -> None:
        try:
            self.follower._keep_up()
        except (Unreachable, ContractError):
            self.open_stream()


class Protocol(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.clock = ManualClock()
        self.weather = ("", 0.0, 0.0)
        self.ledger = Ledger()
        self.has_jumped = False
        self.collector = Collector(self.clock, CAPS)
        self.clients = [Client(self, n, 0) for n in (0, 1)]
        self.is_round = False
        self.listen()
        self.remember()

    def listen(self) -> None:
        """Write down what the collector changes, as it tells of it."""
        breakers, control = self.collector.breakers, self.collector.control
        announce = breakers._announce

        def announced(change, now):
            self.ledger = self.ledger.changed(change).holding(control, now.monotonic_s)
            announce(change, now)

        breakers._announce = announced
        self.ledger = self.ledger.holding(control, self.clock.monotonic())

    def remember(self) -> None:
        held = tuple(client.table.at for client in self.clients)
        self.before = held, self.collector.control.at

    # -- the collector ------------------------------------------------------------------------

    @rule(hot=hots, works=st.booleans())
    def round(self, hot, works):
        """One evaluation: alerts act, then time does."""
        now, breakers = self.clock.now(), self.collector.breakers
        for k in sorted(hot if works else ()):
            breakers.act(Trip(draft_of(k)), now, ACTIVE_USERS)
        if works:
            self.ledger = self.ledger.works(now.monotonic_s)
        loads = {KEYS[k]: 2.0 for k in hot}
        lasting = dict.fromkeys(loads, "it harms others")
        breakers.tick(Seen(loads, lasting, lasting, None if works else ()), now)
        self.is_round = True

    @rule(k=keys, mode=st.sampled_from([BreakerMode.REJECT, BreakerMode.FLAG]))
    def person_trips(self, k, mode):
        asked = {"user": KEYS[k].user, "service": SERVICE, "call": KEYS[k].call}
        body = {**asked, "mode": mode.value, "lease_ms": 10_000, "issuer": "human:mia"}
        headers = {"content-type": "application/json"}
        answer = self.collector.ask("POST", BREAKERS_PATH, json.dumps(body).encode(), headers)
        assert answer.status in (201, 409), answer

    @precondition(lambda self: self.collector.control.held)
    @rule(data=st.data())
    def person_clears(self, data):
        held = data.draw(st.sampled_from(self.collector.control.held))
        answer = self.collector.ask("DELETE", f"{BREAKERS_PATH}/{held.entry.id}?by=mia")
        assert answer.ok

    @rule()
    def collector_restarts(self):
        held = {row.key for row in self.collector.control.held}
        self.collector.restart()
        gone = held - {row.key for row in self.collector.control.held}
        now = self.clock.monotonic()
        self.ledger = self.ledger.works(now)
        self.ledger = self.ledger.interrupted(KEYS if self.has_jumped else gone, now)
        self.listen()
        for client in self.clients:
            client.open_stream()

    # -- the network and time -----------------------------------------------------------------

    @rule(
        lost=st.sampled_from(["", "", "", "request", "answer"]),
        before_s=st.sampled_from([0.0, 0.0, 0.4, 1.5]),
        after_s=st.sampled_from([0.0, 0.0, 0.4, 1.5]),
    )
    def weather_changes(self, lost, before_s, after_s):
        """What becomes of requests from now on."""
        self.weather = lost, before_s, after_s

    @rule(seconds=st.sampled_from([0.1, 0.25, 1.0, 2.0, 6.0, 10.0, 31.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3_600.0, -1.0]))
    def wall_clock_jumps(self, seconds):
        """Back. One that jumps ahead while no collector runs is no other than a long night."""
        self.clock.step_wall_clock(seconds)
        self.has_jumped = True

    @rule(c=clients, fate=st.sampled_from(["at once", "at once", "late", "lost", "twice"]))
    def stream_speaks(self, c, fate):
        client = self.clients[c]
        payload, client.sent = self.collector.says(client.sent)
        if fate == "late":
            client.late += payload
        elif fate != "lost":
            client.hear(payload)
        if fate == "twice":
            client.hear(payload)

    @rule(c=clients)
    def late_bytes_arrive(self, c):
        client = self.clients[c]
        payload, client.late = client.late, b""
        client.hear(payload)

    @rule(c=clients, text=st.sampled_from(["{", "[]", '{"epoch": 9, "version": 1, "mode": "all"}']))
    def stream_is_garbled(self, c, text):
        table = self.clients[c].table
        was = table.at, table.entries
        self.clients[c].hear(f"event: snapshot\nid: 9.1\ndata: {text}\n\n".encode())
        assert (table.at, table.entries) == was

    # -- clients ------------------------------------------------------------------------------

    @rule(c=clients)
    def client_keeps_up(self, c):
        """Renewals and reports, as they are due."""
        self.clients[c].keep_up()

    @rule(c=clients, k=keys)
    def user_calls(self, c, k):
        key, now = KEYS[k], self.clock.monotonic()
        decision = self.clients[c].table.decide(key.user, key.call, now)
        entry = decision.entry
        if decision.reason is Reason.PROBED:
            self.ledger = self.ledger.probed(Probe(now, key, c, entry.probe_per_s))
        if not decision.allowed and entry is not None:
            self.ledger = self.ledger.refuses(entry.id)

    @rule(c=clients)
    def client_restarts(self, c):
        self.clients[c] = Client(self, c, self.clients[c].run + 1)
        held, at = self.before
        self.before = tuple(None if n == c else was for n, was in enumerate(held)), at

    @rule()
    def all_is_quiet_and_connected(self):
        """5: all agree within five seconds; the demand is gone, too."""
        self.weather = ("", 0.0, 0.0)
        for client in self.clients:
            client.open_stream()
        for n in range(1, 21):
            self.clock.advance(0.25)
            self.round(set(), works=True)
            for client in self.clients:
                if n * 0.25 % HEARTBEAT_S == 0 or client.sent != self.collector.control.at:
                    payload, client.sent = self.collector.says(client.sent)
                    client.hear(payload)
                client.keep_up()
        entries = {row.entry.id: row.entry for row in self.collector.control.held}
        for client in self.clients:
            assert client.table.at == self.collector.control.at
            assert {one.id: one for one in client.table.entries} == entries

    # -- what always holds --------------------------------------------------------------------

    def draw(self, c, user, call, *, outgoing=False):
        table, now = fork(self.clients[c].table), self.clock.monotonic()
        return (
            table.decide_for(SERVICE, user, call, now)
            if outgoing
            else table.decide(user, call, now)
        )

    @invariant()
    def every_invariant_holds(self):
        now = self.clock.monotonic()
        self.ledger = self.ledger.holding(self.collector.control, now)
        tables = [client.table for client in self.clients]
        view = View(
            self.collector.control,
            CAPS,
            ACTIVE_USERS,
            tables,
            self.draw,
            KEYS,
            NOBODY,
            self.ledger,
            now,
            self.before,
            self.is_round,
        )
        assert broken(view) is None, broken(view)
        self.is_round = False
        self.remember()


Protocol.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestProtocol = Protocol.TestCase
