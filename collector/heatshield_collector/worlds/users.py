"""Users: how they come, what they ask for, and what they do at an answer."""

import bisect
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heatshield_collector.worlds.requests import Step
from heatshield_collector.worlds.services import Service
from heatshield_collector.worlds.world import Asked, World

__all__ = ["Ask", "Population", "closed_loop", "crowd", "pages", "polls"]

Steps = Callable[[random.Random], Sequence[Step]]
"""Draws the steps of one request."""

REFUSED = (429, 503)


@dataclass(frozen=True, slots=True)
class Ask:
    """A kind of request.

    Attributes:
        service: that takes it.
        call: what it is there.
        steps: draws what it does.
    """

    service: Service
    call: str
    steps: Steps


class Population:
    """So many users, dealt by a Zipf law.

    Args:
        count: users.
        s: exponent of the Zipf law; 0: all alike.
        prefix: of their names.
    """

    def __init__(self, count: int, s: float = 1.0, prefix: str = "u-") -> None:
        weights = ((rank + 1) ** -s for rank in range(count))
        self._sums = list(itertools.accumulate(weights))
        self._prefix = prefix

    def draw(self, chance: random.Random) -> str:
        """One user."""
        at = bisect.bisect(self._sums, chance.random() * self._sums[-1])
        return f"{self._prefix}{min(at, len(self._sums) - 1)}"


def crowd(  # noqa: PLR0913 - what a crowd is
    world: World, source: str, ask: Ask, users: Population | str, *, rate: float, from_s: float = 0,
    to_s: float, at_rate: Callable[[float], float] | None = None, gives_up_s: float = 0.0,
    retries: int = 0,
) -> None:  # fmt: skip
    """Independent requests (Poisson), whoever has been answered or not.

    Args:
        world: in which they come.
        source: names this stream of chance.
        ask: what they ask for.
        users: who; one name for a single user.
        rate: requests a second.
        from_s: begin.
        to_s: end.
        at_rate: part of ``rate`` at a moment, 0 to 1.
        gives_up_s: after so long without an answer a request is sent again; 0: never. The service
            goes on with the first one.
        retries: most of them.
    """
    chance = world.chance(source)

    def send(user: str, steps: Sequence[Step], left: int) -> None:
        asked = world.ask(source, user, ask.service, ask.call, steps)
        if left:
            world.engine.after(gives_up_s, again, asked, steps, left - 1)

    def again(asked: Asked, steps: Sequence[Step], left: int) -> None:
        if asked.latency_s is None:
            send(asked.user, steps, left)

    def come() -> None:
        now_s = world.now_s
        user = users if isinstance(users, str) else users.draw(chance)
        steps, dice = ask.steps(chance), chance.random()
        if at_rate is None or dice < at_rate(now_s):
            send(user, steps, retries)
        following(now_s)

    def following(at_s: float) -> None:
        at_s += chance.expovariate(rate)
        if at_s < to_s:
            world.engine.at(at_s, come)

    following(from_s)


def closed_loop(  # noqa: PLR0913 - what a loop is
    world: World, source: str, ask: Ask, user: str, *, connections: int, from_s: float,
    to_s: float, think_s: float = 0.0, again_s: float = 0.2, apart_s: float = 0.0,
) -> None:  # fmt: skip
    """A user who asks again at each answer, over several connections.

    Args:
        world: in which it happens.
        source: names this stream of chance.
        ask: what the user asks for.
        user: who.
        connections: at once.
        from_s: begin.
        to_s: end.
        think_s: mean seconds between an answer and the next request.
        again_s: seconds after a refusal, whatever it says.
        apart_s: seconds between the first requests of two connections.
    """

    def begin(name: str) -> None:
        chance = world.chance(name)

        def request() -> None:
            if world.now_s < to_s:
                world.ask(name, user, ask.service, ask.call, ask.steps(chance), answered)

        def answered(asked: Asked) -> None:
            wait_s = chance.expovariate(1 / think_s) if think_s else 0.0
            world.engine.after(again_s if asked.status in REFUSED else wait_s, request)

        request()

    for at in range(connections):
        world.engine.at(from_s + at * apart_s, begin, f"{source} {at}")


def pages(  # noqa: PLR0913 - what a page is
    world: World, source: str, page: Ask | None, picture: Ask, user: str, *, pictures: int,
    every_s: tuple[float, float], from_s: float, to_s: float, connections: int = 100,
) -> None:  # fmt: skip
    """A reader opens pages, each with its pictures, over so many connections.

    Args:
        world: in which it happens.
        source: names this stream of chance.
        page: fetched first; ``None``: only pictures.
        picture: fetched then.
        user: who.
        pictures: of each page.
        every_s: least and most seconds between two pages.
        from_s: begin.
        to_s: end.
        connections: pictures that are fetched at once.
    """
    chance = world.chance(source)

    def open_page() -> None:
        if page is None:
            fetch_all()
        else:
            world.ask(
                source, user, page.service, page.call, page.steps(chance), lambda _: fetch_all()
            )
        at_s = world.now_s + chance.uniform(*every_s)
        if at_s < to_s:
            world.engine.at(at_s, open_page)

    def fetch_all() -> None:
        left = [picture.steps(chance) for _ in range(pictures)]

        def fetch(_: Asked | None = None) -> None:
            if left:
                world.ask(f"{source} pictures", user, picture.service, picture.call, left.pop(),
                          fetch)  # fmt: skip

        for _ in range(min(connections, pictures)):
            fetch()

    world.engine.at(from_s, open_page)


def polls(
    world: World, source: str, asks: Sequence[Ask], user: str, *, every_s: float, from_s: float,
    to_s: float,
) -> None:  # fmt: skip
    """A page that asks for several things at once, again and again."""
    chance = world.chance(source)

    def poll() -> None:
        for at, ask in enumerate(asks):
            world.ask(f"{source} {at}", user, ask.service, ask.call, ask.steps(chance))
        if world.now_s + every_s < to_s:
            world.engine.after(every_s, poll)

    world.engine.at(from_s, poll)
