"""What can happen next in a state."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from breaker_model.world import CLIENTS, KEYS, Message, World, draft_of
from heatshield.contract import (
    RAMP_S,
    BreakerMode,
    ContractError,
    Delta,
    PlatformMode,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.breaker_states import BreakerState
from heatshield_alerts.caps import Caps
from heatshield_alerts.demand import REJECTION_WINDOW_S
from heatshield_alerts.held_breaker import COOL_S, ESCALATE_S, HALF_OPEN_S
from heatshield_alerts.instances import LIVE_S
from heatshield_alerts.restraint import HOLD_DOWN_S, MOVES_WINDOW_S

__all__ = ["Action", "Alphabet", "actions", "next_moment", "toggle", "wait_until"]

STALL_S: Final = 31.0
"""A collector that was stopped for as long goes on after every lease has ended."""

HUMAN_LEASE_MS: Final = 10_000


class Alphabet(NamedTuple):
    """What may happen at all.

    Attributes:
        crashes: of both sides together, at most.
        stalls: of the collector, at most.
        people: the keys that people trip and clear.
        flags: a rule asks for a flag on a key, too.
        garbles: messages arrive garbled.
        modes: people switch between shadow and protect.
        low_caps: what a restart may find as the caps.
        only: the actions whose name has this pattern in it; empty: all.
    """

    crashes: int = 1
    stalls: int = 1
    people: tuple[int, ...] = (0,)
    flags: bool = False
    garbles: bool = True
    modes: bool = False
    low_caps: Caps | None = None
    only: str = ""


class Action(NamedTuple):
    """A step that can be taken: its name for people, and what it does to a fork of the state."""

    name: str
    do: Callable[[World], object]


def actions(world: World, alphabet: Alphabet) -> Iterator[Action]:
    """Everything that can happen next."""
    for action in _all(world, alphabet):
        if not alphabet.only or re.search(alphabet.only, action.name):
            yield action


def _all(world: World, alphabet: Alphabet) -> Iterator[Action]:
    yield from _time(world, alphabet)
    yield from _server(world, alphabet)
    for c in CLIENTS:
        yield from _network(world, c, alphabet)
        yield from _client(world, c, alphabet)


def _time(world: World, alphabet: Alphabet) -> Iterator[Action]:
    moment = next_moment(world)
    if moment is not None:
        yield Action(f"{moment - world.now:g} s pass, a round", partial(wait_until, moment=moment))
    holds = world.control.held or any(client.table.entries for client in world.clients)
    if holds and world.stalls < alphabet.stalls:
        yield Action(f"the collector stalls for {STALL_S:g} s", _stall)


def _stall(world: World) -> None:
    world.now += STALL_S
    world.stalls += 1
    world.note()


def wait_until(world: World, moment: float) -> None:
    """Time passes, then a round comes."""
    world.now = moment
    world.round()


def _server(world: World, alphabet: Alphabet) -> Iterator[Action]:
    for k, key in enumerate(KEYS):
        how = "cools" if k in world.hot else "turns hot"
        yield Action(f"{key.user} {how}, a round", partial(toggle, k=k))
        if alphabet.flags:
            yield Action(f"a rule flags {key.user}", partial(_flag, k=k))
        if k not in alphabet.people:
            continue
        held = next((row for row in world.control.held if row.key == key), None)
        if held is None:
            yield Action(f"a person trips {key.user}", partial(_trip, k=k))
        else:
            entry_id = held.entry.id
            yield Action(f"a person clears {key.user}", partial(_clear, entry_id=entry_id))
    if alphabet.modes:
        yield Action("a person switches the mode", _switch)
    if world.hot:
        yield Action(
            f"the rules {'fail' if world.rules_work else 'work again'}, a round", _toggle_rules
        )
    if world.crashes < alphabet.crashes:
        yield Action("the collector restarts", partial(_restart, jump_s=0.0))
        yield Action(
            "the collector restarts, its wall clock an hour back", partial(_restart, jump_s=-3600.0)
        )
        if alphabet.low_caps is not None:
            caps = alphabet.low_caps
            yield Action("the collector restarts, lower caps", partial(_restart, caps=caps))


def toggle(world: World, k: int) -> None:
    """A user turns hot, or cools; then a round comes."""
    world.hot ^= {k}
    world.round()


def _toggle_rules(world: World) -> None:
    world.rules_work = not world.rules_work
    world.round()


def _switch(world: World) -> None:
    control = world.own_server()
    shadow = control.mode is PlatformMode.SHADOW
    mode = PlatformMode.PROTECT if shadow else PlatformMode.SHADOW
    change = control.set_mode(mode, "human:mia", world.now)
    assert change is not None
    world.note(change)


def _flag(world: World, k: int) -> None:
    world.own_server()
    world.ask(k, mode=BreakerMode.FLAG, issuer="rule:Flag", then=None)


def _trip(world: World, k: int) -> None:
    control = world.own_server()
    asked = draft_of(
        k, issuer="human:mia", mode=BreakerMode.REJECT, then=None, lease_ms=HUMAN_LEASE_MS
    )
    world.note(control.trip(asked, world.now))
    ingest = replace(asked, issuer="ingest", key=asked.key._replace(user="zoe"))
    world.note(control.trip(ingest, world.now))  # a token that may only bring spans asks, too


def _clear(world: World, entry_id: str) -> None:
    control = world.own_server()
    world.note(control.clear(entry_id, "mia", world.now))


def _restart(world: World, jump_s: float = 0.0, caps: Caps | None = None) -> None:
    world.restart_server(caps or world.caps, jump_s)


def _network(world: World, c: int, alphabet: Alphabet) -> Iterator[Action]:
    client, at = world.clients[c], world.control.at
    if client.stream is None:
        yield Action(f"client {c} opens its stream", partial(_connect, c=c))
    elif client.stream[1] != at or client.table.at != at:
        yield Action(f"the stream tells client {c}", partial(World.push, c=c))
    yield Action(f"client {c} asks for the state", partial(World.renew, c=c))
    if client.stream is not None and client.stream[1] != at:
        yield Action(f"client {c} hears of {at} at once, and reports", partial(_hear, c=c))
    for n, message in enumerate(world.down[c]):
        yield Action(
            f"client {c} receives {_text(message, world.now)}",
            partial(World.deliver, c=c, message=message),
        )
        if alphabet.garbles and n == 0:
            yield Action(
                f"client {c} receives {_text(message, world.now)}, garbled",
                partial(_garble, c=c, message=message),
            )
    for report in world.up[c]:
        counts = sum(row.count for row in report.rejected)
        name = f"a report of client {c} arrives ({counts} refused, {report.applied})"
        yield Action(name, partial(World.arrive, c=c, report=report, answered=True))
        if report.rejected:
            name += ", the answer is lost"
            yield Action(name, partial(World.arrive, c=c, report=report, answered=False))


def _connect(world: World, c: int) -> None:
    world.connect(c)
    world.push(c)


def _hear(world: World, c: int) -> None:
    """The everyday case: nothing is lost or late."""
    world.push(c)
    world.deliver(c, world.down[c][-1])
    world.arrive(c, world.report(c), answered=True)


def _text(message: Message, now: float) -> str:
    change = message.change
    age = f"asked for {now - message.sent_at:g} s ago"
    if isinstance(change, Delta):
        return f"the delta {change.base} → {change.at}"
    if isinstance(change, StateVersion):
        return f"“still at {change}”, {age}"
    return f"the snapshot {change.at}, {age}"


def _garble(world: World, c: int, message: Message) -> None:
    """The text of a message is damaged in ways that JSON survives."""
    change = message.change
    if isinstance(change, StateVersion):
        return
    kind, rows = (Snapshot, "entries") if isinstance(change, Snapshot) else (Delta, "upsert")
    for name, value in _DAMAGE:
        said = change.to_json()
        said[rows] = [{**row, name: value} for row in said[rows]] or [{name: value}]
        try:
            read = kind.from_json(said)
        except ContractError:
            continue
        world.deliver(c, Message(read, message.sent_at))


_DAMAGE: Final = (
    ("mode", "obliterate"),
    ("scope", "everybody"),
    ("user", "*\n"),
    ("call", "*"),
    ("lease_ms", 10**9),
    ("lease_ms", -1),
)


def _client(world: World, c: int, alphabet: Alphabet) -> Iterator[Action]:
    client = world.clients[c]
    for k, key in enumerate(KEYS):
        if client.table.entries and any(one.key == key for one in client.table.entries):
            yield Action(f"{key.user} calls client {c}", partial(World.call, c=c, k=k))
    yield Action(f"client {c} reports", partial(_report, c=c))
    if world.crashes < alphabet.crashes:
        yield Action(f"client {c} restarts", partial(World.restart_client, c=c))


def _report(world: World, c: int) -> None:
    """Sent, and there at once; a copy may come later."""
    world.arrive(c, world.report(c), answered=True)


def next_moment(world: World) -> float | None:
    """The next moment at which time alone changes something."""
    times: list[float] = []
    for row in world.control.held:
        low_s = row.demand.low_since_s
        times += [row.granted_s + row.hold_s, row.rule_s + row.entry.lease_ms / 1_000]
        if row.state is BreakerState.HALF_OPEN:
            times.append(row.since_s + HALF_OPEN_S)
        elif row.entry.mode is BreakerMode.PACE:
            times.append(row.since_s + ESCALATE_S)
        if low_s is not None:
            times += [low_s + COOL_S, low_s + row.cool_s, low_s + HALF_OPEN_S]
            times += [row.since_s + COOL_S] if row.draft.first else []
        moves = world.control.checks.restraint._moves.get(row.key, ())
        times += [at_s + MOVES_WINDOW_S + 0.001 for at_s in moves]
        times += [at_s + REJECTION_WINDOW_S + 0.001 for at_s, _ in row.demand._rejected]
        instances = world.control.instances.live(world.now)
        times += [one.seen_s + LIVE_S + 0.001 for one in instances]
    for client in world.clients:
        ends = {client.table._anchor + one.lease_ms / 1_000 for one in client.table.entries}
        times += [*ends, *(end + RAMP_S for end in ends)]
    times += [one.at_s + 1.0 for one in world.ledger.probes]
    times += [at_s + HOLD_DOWN_S for at_s in world.ledger.cleared_s.values()]
    return min((at for at in times if at > world.now + 1e-6), default=None)
