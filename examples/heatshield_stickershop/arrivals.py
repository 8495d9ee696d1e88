"""Draws the ordinary users' requests as a seeded Poisson process.

Arrivals do not wait for answers (an open loop), as real users are independent of each other. So the
load shows a slow platform in full: a request's latency counts from the moment it was due.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from heatshield_stickershop import population

__all__ = ["PICTURE", "PICTURES", "Arrival", "arrivals", "page", "purchase"]

STICKER_MESSAGE: Final = "sticker message"
PLAIN_MESSAGE: Final = "plain message"
PURCHASE: Final = "purchase"
PICTURE: Final = "picture"

PICTURES: Final = 12
"""Of a page."""

MIX: Final = {STICKER_MESSAGE: 0.45, PLAIN_MESSAGE: 0.30, PURCHASE: 0.25}
"""Shares of the kinds of request that ordinary users send."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One future request.

    Attributes:
        due_s: seconds after the start of the load.
        user: the user that sends it.
        route: the kind of request; a key of MIX.
        path: its path at the gateway.
        body: its JSON, or None.
    """

    due_s: float
    user: str
    route: str
    path: str
    body: dict[str, str] | None


def arrivals(seed: int, rate_per_s: float, duration_s: float) -> Iterator[Arrival]:
    """The requests of all ordinary users, in the order they are due."""
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    users = population.ordinary_users()
    owned = {user: population.stickers_of(user, seed) for user in users}
    due_s = draw.expovariate(rate_per_s)
    number = 0
    while due_s < duration_s:
        number += 1
        user = draw.choice(users)
        route = draw.choices(list(MIX), weights=list(MIX.values()))[0]
        if route == PURCHASE:
            yield purchase(due_s, user, number)
        else:
            sticker = draw.choice(owned[user]) if route == STICKER_MESSAGE else None
            yield _message(due_s, user, draw.choice(users), route, sticker)
        due_s += draw.expovariate(rate_per_s)


def purchase(due_s: float, user: str, number: int) -> Arrival:
    """The purchase of a sticker that the user does not own yet."""
    path = f"/stickers/{population.new_sticker(number)}/purchase"
    return Arrival(due_s, user, PURCHASE, path, None)


def page(due_s: float, user: str) -> list[Arrival]:
    """The pictures of a page of stickers, all at once, as a browser asks for them."""
    names = (population.new_sticker(number) for number in range(PICTURES))
    paths = (f"/stickers/{name}/picture" for name in names)
    return [Arrival(due_s, user, PICTURE, path, None) for path in paths]


def _message(due_s: float, user: str, to: str, route: str, sticker: str | None) -> Arrival:
    body = {"to": to, "text": "hello"} | ({"sticker": sticker} if sticker else {})
    return Arrival(due_s, user, route, "/messages", body)
