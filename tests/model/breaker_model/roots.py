"""States to begin from: the empty one, and some that take many steps to reach."""

from breaker_model.actions import toggle, wait_until
from breaker_model.world import CLIENTS, World
from heatshield_alerts.caps import Caps

__all__ = ["WIDE", "all_roots", "cold", "flapping", "half_open", "one_user", "paced", "refused"]

WIDE = Caps(entries=5, new_per_minute=3)
"""Both keys may be held; the third new entry within a minute is the last."""


def cold(caps: Caps = WIDE) -> World:
    """Nothing is held; both clients are connected and known."""
    world = World(caps)
    world.name = "nothing is held"
    for c in CLIENTS:
        world.connect(c)
        _follow(world)
    return world


def _follow(world: World) -> None:
    """All clients hear of all, and report."""
    for c in CLIENTS:
        if world.clients[c].stream is not None:
            world.push(c)
        world.renew(c)
        world.deliver(c, world.down[c][-1])
        world.arrive(c, world.report(c), answered=True)
    world.down = [() for _ in CLIENTS]
    world.up = [() for _ in CLIENTS]


def paced() -> World:
    """The first user is paced, the second refused, and both clients know."""
    world = cold()
    world.name = "one is paced, one refused"
    for k in (0, 1):
        toggle(world, k)
    _follow(world)
    return world


def half_open() -> World:
    """The second user's demand is gone: one client probes."""
    world = cold()
    world.name = "one is half-open"
    toggle(world, 1)
    _follow(world)
    toggle(world, 1)
    for seconds in (5.0, 5.0, 0.25):
        wait_until(world, world.now + seconds)
        _follow(world)
    return world


def refused() -> World:
    """The first user went on though paced, and is refused."""
    world = cold()
    world.name = "one is refused after pacing"
    toggle(world, 0)
    for seconds in (1.0, 1.25, 0.25):
        wait_until(world, world.now + seconds)
        _follow(world)
    return world


def flapping() -> World:
    """The first user, refused after pacing, came back under the probes, and is gone again."""
    world = refused()
    world.name = "one came back, and is held longer"
    toggle(world, 0)
    for seconds in (5.0, 5.0, 0.25):
        wait_until(world, world.now + seconds)
        _follow(world)
    toggle(world, 0)
    _follow(world)
    toggle(world, 0)
    _follow(world)
    return world


def one_user() -> World:
    """Nothing is held, and rules may cut one user alone."""
    world = cold(Caps(entries=5, users_at_most=1))
    world.name = "nothing is held, rules may cut one user"
    return world


def all_roots() -> list[World]:
    """All of them."""
    return [cold(), one_user(), paced(), refused(), half_open(), flapping()]
