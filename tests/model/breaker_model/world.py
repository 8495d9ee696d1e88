"""One state of the whole: a collector, two clients, what is under way between them, and the truth.

The machines are the real ones. What is modelled is what surrounds them: a client's follower
(:mod:`heatshield.breakers.follow`) as far as it decides what is applied with which moment, rounds
of evaluation, and a network of which nothing is assumed. It holds the last messages of each
direction; any of them may arrive at any moment, any number of times, or never: that is loss,
duplication and reordering at once.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from breaker_model.forking import fork
from breaker_model.ledger import Ledger, Probe
from heatshield.breakers.decision import Decision, Reason
from heatshield.breakers.lease_table import Applied, BreakerTable
from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield.contract import (
    BreakerMode,
    ContractError,
    Delta,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.breaker_changes import Change
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.draft import Draft
from heatshield_alerts.report_numbers import ReportNumbers
from heatshield_alerts.seen import Seen
from heatshield_alerts.trip_policy import Trip

__all__ = [
    "ACTIVE_USERS",
    "CLIENTS",
    "KEYS",
    "NOBODY",
    "SERVICE",
    "Message",
    "World",
    "draft_of",
    "set_chance",
]

SERVICE: Final = "shop"
CLIENTS: Final = (0, 1)
KEYS: Final = (
    CallKey(DEFAULT_TENANT, "ann", SERVICE, "GET /a"),
    CallKey(DEFAULT_TENANT, "bob", SERVICE, "GET /a"),
)
NOBODY: Final = "eve"
"""A user whom nobody ever asks to cut."""

MESSAGES: Final = (2, 1)
"""Messages under way to each client. One of two is enough to see what reordering does."""

ACTIVE_USERS: Final = 250
THRESHOLD: Final = 1.0
LEASE_MS: Final = 30_000
_EPOCH_NS: Final = 1_700_000_000_000_000_000

_chance = 0.0


def set_chance(value: float) -> None:
    """What every table draws on its ramp: 0 refuses as long as may be, 1 lets through."""
    global _chance  # noqa: PLW0603 - forks of a table share their source of chance
    _chance = value


def _draw() -> float:
    return _chance


def new_table(name: str) -> BreakerTable:
    """An empty table of the process with this name."""
    return BreakerTable(SERVICE, chance=_draw, instance=lambda: name)


RULES: Final = (
    {"issuer": "rule:Hot", "mode": BreakerMode.PACE, "then": BreakerMode.REJECT, "budget": 0.5},
    {"issuer": "rule:Rough", "mode": BreakerMode.REJECT},
)
"""What is asked for each key: the ladder, or refusal at once."""


def draft_of(key: int, **fields: Any) -> Draft:
    """What an alert about a key asks for; ``fields`` differ."""
    given = {"threshold": THRESHOLD, "cost_per_call": 0.1, "load": 2.0, "traffic": 0.04}
    return Draft(KEYS[key], **{**given, **RULES[key], **fields})


@dataclass(frozen=True, slots=True)
class Message:
    """To a client. ``sent_at``: the moment of the request that it answers."""

    change: Snapshot | Delta | StateVersion
    sent_at: float

    def is_like(self, other: "Message") -> bool:
        """Whether both say the same of the same moment."""
        mine, theirs = self.change, other.change
        if isinstance(mine, Delta) and isinstance(theirs, Delta):
            return (mine.base, mine.at) == (theirs.base, theirs.at)
        if type(mine) is not type(theirs) or self.sent_at != other.sent_at:
            return False
        return getattr(mine, "at", mine) == getattr(theirs, "at", theirs)


@dataclass(slots=True)
class Client:
    """A process that enforces: its table, and what its follower knows.

    Attributes:
        name: of the instance; another after a restart.
        stream: when its stream was opened, and what was sent on it last; ``None``: there is none.
        anchor: of the follower.
        drawn: what :meth:`World.draw` found, by moment, user and call.
        rows: refused calls that are not known to have been counted, and their number.
    """

    table: BreakerTable
    name: str
    stream: tuple[float, StateVersion | None] | None = None
    anchor: float = float("-inf")
    rows: tuple[tuple[Any, ...], int] = ((), 0)
    drawn: dict[tuple[Any, ...], Decision] = field(default_factory=dict)


class World:
    """A state. Successors are forks on which one action was carried out.

    Attributes:
        name: of the state it came from, for people.
        now: the one true clock, monotonic seconds.
        wall_ns: what the wall clock is ahead of it.
        hot: the keys whose users burn the platform, whose alerts fire.
        rules_work: rules are evaluated.
        kept: what is on the collector's disk: its state as it was after the last change, and when.
        down: messages under way to each client.
        up: reports under way from each.
        crashes: of either side, so far.
        stalls: of the collector, so far.
    """

    __slots__ = (
        "caps",
        "clients",
        "control",
        "crashes",
        "down",
        "hot",
        "kept",
        "ledger",
        "name",
        "now",
        "numbers",
        "rules_work",
        "stalls",
        "up",
        "wall_ns",
    )

    def __init__(self, caps: Caps) -> None:
        self.name = ""
        self.now = 1_000.0
        self.wall_ns = _EPOCH_NS
        self.caps = caps
        self.control = BreakerControl(1, PlatformMode.PROTECT, caps)
        self.numbers = ReportNumbers()
        self.clients = [Client(new_table(f"i-{c}.0"), f"i-{c}.0") for c in CLIENTS]
        self.hot: frozenset[int] = frozenset()
        self.rules_work = True
        self.down: list[tuple[Message, ...]] = [() for _ in CLIENTS]
        self.up: list[tuple[Report, ...]] = [() for _ in CLIENTS]
        self.crashes = self.stalls = 0
        self.kept = (self.control, self.instant)
        self.ledger = Ledger().holding(self.control, self.now)

    def fork(self) -> "World":
        """The same state, whose parts are copied before they change."""
        made = World.__new__(World)
        for name in World.__slots__:
            setattr(made, name, getattr(self, name))
        made.clients, made.down, made.up = self.clients[:], self.down[:], self.up[:]
        return made

    @property
    def instant(self) -> Instant:
        """The moment on both axes."""
        return Instant(self.now, self.wall_ns + round(self.now * 1e9))

    def own_server(self) -> BreakerControl:
        """The collector's state, to be changed."""
        self.control = fork(self.control)
        return self.control

    def own_client(self, c: int) -> Client:
        """A client's state, to be changed."""
        self.clients[c] = fork(self.clients[c])
        self.clients[c].drawn = {}
        return self.clients[c]

    # -- the collector ------------------------------------------------------------------------

    def note(self, *changes: Change) -> None:
        """The collector changed something: it is on disk before any client hears of it."""
        for change in changes:
            self.ledger = self.ledger.changed(change)
        if any(one.is_visible or one.is_kept for one in changes):
            self.kept = (self.control, self.instant)
        self.ledger = self.ledger.holding(self.control, self.now)

    def round(self) -> None:
        """One evaluation: alerts act, then time does."""
        control = self.own_server()
        for k in sorted(self.hot if self.rules_work else ()):
            self.ask(k)
        loads = {KEYS[k]: 2.0 * THRESHOLD for k in self.hot}
        rules = None if self.rules_work else ("Flag",)
        lasting = {KEYS[k]: "it harms others" for k in self.hot}
        seen = Seen(loads, lasting, lasting, rules)
        if self.rules_work:
            self.ledger = self.ledger.works(self.now)
        self.note(*control.tick(self.now, seen))

    def ask(self, k: int, **fields: Any) -> None:
        """A rule asks for an entry; the control must be owned."""
        decision = Trip(draft_of(k, **fields))
        self.note(*self.control.make_room(decision, self.now, ACTIVE_USERS))
        self.note(self.control.act(decision, self.now, ACTIVE_USERS))

    def restart_server(self, caps: Caps, jump_s: float = 0.0) -> None:
        """kill -9, and another collector on the same data; the wall clock may jump meanwhile."""
        self.wall_ns += round(jump_s * 1e9)
        before = self.control
        control, then = self.kept
        epoch, mode = self.control.at.epoch + 1, self.control.mode
        value = control.keep(then)
        if jump_s > 0:
            self.ledger = self.ledger.forward_jump()
        self.caps = caps
        self.control = BreakerControl(epoch, mode, caps)
        self.numbers = ReportNumbers()
        self.crashes += 1
        self.hot = frozenset()
        for c in CLIENTS:
            self.own_client(c).stream = None
        held = {row.key for row in before.held}
        self.note(*self.control.restore(KeptControl(value), self.instant))
        gone = held - {row.key for row in self.control.held}
        self.ledger = self.ledger.interrupted(KEYS if jump_s < 0 else gone, self.now)
        self.kept = (self.control, self.instant)
        self.ledger = self.ledger.works(self.now)

    # -- between them -------------------------------------------------------------------------

    def send(self, c: int, message: Message) -> None:
        """A message is under way; an older one is lost for it."""
        others = tuple(one for one in self.down[c] if not one.is_like(message))
        self.down[c] = (*others, message)[-MESSAGES[c] :]

    def connect(self, c: int) -> None:
        """A client opens its stream."""
        client = self.own_client(c)
        client.stream = (self.now, client.table.at)

    def push(self, c: int) -> None:
        """What the stream says next, as in the collector's ``api/breaker_events.py``."""
        client = self.own_client(c)
        assert client.stream is not None
        opened_at, sent = client.stream
        control = self.control
        delta = None if sent is None else control.delta_since(sent)
        change = sent if sent == control.at else delta
        self.send(c, Message(control.snapshot() if change is None else change, opened_at))
        client.stream = (opened_at, control.at)

    def renew(self, c: int) -> None:
        """A client asks for the state; the answer is under way."""
        held, at = self.clients[c].table.at, self.control.at
        self.send(c, Message(at if held == at else self.control.snapshot(), self.now))

    def deliver(self, c: int, message: Message) -> Applied:
        """A message arrives at a client."""
        client = self.own_client(c)
        self.ledger = self.ledger.answered(c, message.sent_at)
        try:
            return self._apply(client, message)
        except ContractError:  # the follower lets go of the stream, and opens another
            client.stream = None
            return Applied.GAP

    def _apply(self, client: Client, message: Message) -> Applied:
        change, table = message.change, client.table
        if isinstance(change, Delta):
            return table.apply(change, client.anchor)
        if isinstance(change, StateVersion):
            return table.renewed(change, message.sent_at)
        client.anchor = max(client.anchor, message.sent_at)
        return table.apply(change, client.anchor)

    def report(self, c: int) -> Report:
        """A client's report; refusals whose arrival is not known go again as they were. One with
        refusals may come late, or again.
        """
        client = self.own_client(c)
        rows, number = client.rows
        if not rows:
            rows = client.table.drain_rejections()
            client.rows = (rows, number + bool(rows))
        rows, number = client.rows
        sent = Report(SERVICE, client.name, 1, client.table.at, rows, number)
        if rows:
            self.up[c] = (sent,)
        return sent

    def arrive(self, c: int, report: Report, *, answered: bool) -> None:
        """A report arrives at the collector, whose answer may get lost."""
        control = self.own_server()
        self.numbers = fork(self.numbers)
        if not self.numbers.is_new(report):
            report = replace(report, rejected=())
        control.report(report, self.now)
        self.note()
        if answered and report.instance == self.clients[c].name:
            client = self.own_client(c)
            if report.number == client.rows[1]:
                client.rows = ((), report.number)

    # -- a client -----------------------------------------------------------------------------

    def restart_client(self, c: int) -> None:
        """A process ends, and another takes its place."""
        name = f"i-{c}.{int(self.clients[c].name.partition('.')[2]) + 1}"
        self.clients[c] = Client(new_table(name), name)
        self.crashes += 1
        answered = {one: at for one, at in self.ledger.answered_s.items() if one != c}
        self.ledger = replace(self.ledger, answered_s=answered)

    def call(self, c: int, k: int) -> Decision:
        """A user's call comes to a client."""
        key, client = KEYS[k], self.own_client(c)
        assert key.user is not None
        decision = client.table.decide(key.user, key.call, self.now)
        entry = decision.entry
        if decision.reason is Reason.PROBED and entry is not None:
            self.ledger = self.ledger.probed(Probe(self.now, key, c, entry.probe_per_s))
        if not decision.allowed and entry is not None:
            self.ledger = self.ledger.refuses(entry.id)
        return decision

    def draw(self, c: int, user: str, call: str, *, outgoing: bool = False) -> Decision:
        """What a client would decide now, without deciding it; ``outgoing``: as a caller."""
        client = self.clients[c]
        question = (self.now, user, call, outgoing, client.table.enforce, _chance)
        if question not in client.drawn:
            table = fork(client.table)
            if outgoing:
                client.drawn[question] = table.decide_for(SERVICE, user, call, self.now)
            else:
                client.drawn[question] = table.decide(user, call, self.now)
        return client.drawn[question]
