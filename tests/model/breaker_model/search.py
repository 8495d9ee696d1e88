"""Breadth-first search through all that can happen, and long random walks beyond its depth."""

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from breaker_model.actions import Action, Alphabet, actions
from breaker_model.canonical import canonical
from breaker_model.invariants import View, broken
from breaker_model.settling import unsettled
from breaker_model.world import ACTIVE_USERS, KEYS, NOBODY, World, set_chance

__all__ = ["Counterexample", "Found", "search", "walk"]

SETTLE_EVERY: Final = 64
"""Of so many new states one is let come to rest, to see whether all agree within 5 s."""

CLOSES_OF: Final = 16
"""Of so many of these, one is also asked whether all closes in the end, which takes 240 rounds."""


@dataclass(frozen=True)
class Counterexample:
    """How to get to a state in which something is wrong."""

    trouble: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        steps = "\n".join(f"{n:4}. {step}" for n, step in enumerate(self.steps, 1))
        return f"{self.trouble}\n  after\n{steps}"


@dataclass
class Found:
    """What a search came to."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    settled: int = 0
    complete: bool = False
    counterexample: Counterexample | None = None
    by_depth: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        ended = "complete" if self.complete else "cut short"
        return (
            f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth} "
            f"({ended}), {self.settled:,} brought to rest, {self.seconds:.0f} s"
        )


class _Trail:
    """How a state was reached."""

    __slots__ = ("name", "parent")

    def __init__(self, name: str, parent: "_Trail | None") -> None:
        self.name, self.parent = name, parent

    def steps(self) -> tuple[str, ...]:
        found, at = [], self
        while at is not None:
            found.append(at.name)
            at = at.parent
        return tuple(reversed(found))


def step(world: World, action: Action) -> tuple[World, str | None]:
    """The state after an action, and what is wrong with it."""
    after = world.fork()
    action.do(after)
    return after, broken(view_of(after, world, is_round=action.name.endswith("a round")))


def view_of(world: World, before: World, *, is_round: bool = False) -> View:
    """A state as invariants look at it."""
    held = tuple(
        was.table.at if was.name == now.name else None
        for was, now in zip(before.clients, world.clients, strict=True)
    )
    return View(
        world.control,
        world.caps,
        ACTIVE_USERS,
        [client.table for client in world.clients],
        world.draw,
        KEYS,
        NOBODY,
        world.ledger,
        world.now,
        (held, before.control.at),
        is_round,
    )


def search(
    roots: Iterable[World],
    alphabet: Alphabet,
    *,
    most_s: float = 60.0,
    most_depth: int = 99,
    settle_every: int = SETTLE_EVERY,
    progress: Callable[[str], None] | None = None,
) -> Found:
    """Visit states in the order of their distance from the roots.

    Args:
        roots: where to begin.
        alphabet: what may happen.
        most_s: seconds after which it ends.
        most_depth: actions from a root.
        settle_every: of so many new states one is brought to rest; 0: none.
        progress: told after each depth.
    """
    set_chance(0.0)
    begun, found = time.monotonic(), Found()
    frontier: list[tuple[World, _Trail]] = []
    seen: set[int] = set()
    for root in roots:
        seen.add(canonical(root))
        frontier.append((root, _Trail(f"start: {root.name}", None)))
    while frontier and found.depth < most_depth:
        following: list[tuple[World, _Trail]] = []
        for world, trail in frontier:
            if time.monotonic() - begun > most_s:
                return _end(found, seen, begun)
            for action in actions(world, alphabet):
                after, trouble = step(world, action)
                found.transitions += 1
                name = canonical(after)
                if name in seen and trouble is None:
                    continue
                seen.add(name)
                reached = _Trail(action.name, trail)
                if trouble is None and settle_every and len(seen) % settle_every == 0:
                    found.settled += 1
                    closes = settle_every == 1 or found.settled % CLOSES_OF == 0
                    trouble = unsettled(after, closes=closes)
                if trouble is not None:
                    found.counterexample = Counterexample(trouble, reached.steps())
                    return _end(found, seen, begun)
                following.append((after, reached))
        frontier = following
        found.depth += 1
        found.by_depth.append(len(seen))
        if progress is not None:
            progress(
                f"depth {found.depth}: {len(seen):,} states, {found.transitions:,} transitions"
            )
    found.complete = not frontier
    return _end(found, seen, begun)


def _end(found: Found, seen: set[int], begun: float) -> Found:
    found.states, found.seconds = len(seen), time.monotonic() - begun
    return found


def walk(root: World, alphabet: Alphabet, *, seed: int, length: int, most_s: float = 60.0) -> Found:
    """Walk at random, time and again, further than the search gets."""
    set_chance(0.0)
    begun, found, chance, seen = time.monotonic(), Found(), random.Random(seed), set[int]()
    while True:
        world, trail = root, _Trail(f"start: {root.name}", None)
        for n in range(length):
            if time.monotonic() - begun > most_s:
                return _end(found, seen, begun)
            action = chance.choice(list(actions(world, alphabet)))
            world, trouble = step(world, action)
            trail = _Trail(action.name, trail)
            found.transitions += 1
            found.depth = max(found.depth, n + 1)
            seen.add(canonical(world))
            if trouble is None and n == length - 1:
                found.settled += 1
                trouble = unsettled(world, closes=True)
            if trouble is not None:
                found.counterexample = Counterexample(trouble, trail.steps())
                return _end(found, seen, begun)
