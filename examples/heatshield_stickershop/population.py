"""Computes the users and their stickers from a seed, for the seeding script and the load alike.

The same seed gives the same users, stickers and arrivals on any machine.
"""

import random
from typing import Final

__all__ = [
    "HOT_STICKERS",
    "HOT_USER",
    "ORDINARY_USERS",
    "READER",
    "new_sticker",
    "ordinary_users",
    "owned_at_start",
    "stickers_of",
]

HOT_USER: Final = "u-20000"
HOT_STICKERS: Final = 20_000
"""Stickers of the hot user, as in the true story."""

READER: Final = "u-reader"
"""A user who does nothing but look at pages of stickers."""

ORDINARY_USERS: Final = 300
FEWEST_STICKERS: Final = 5
MOST_STICKERS: Final = 50


def ordinary_users() -> list[str]:
    """The ids of all users but the hot one."""
    return [f"u-{number:04d}" for number in range(1, ORDINARY_USERS + 1)]


def stickers_of(user: str, seed: int) -> list[str]:
    """The stickers of a user at the start: 20,000 for the hot user, 5 to 50 for any other."""
    if user == HOT_USER:
        return [_sticker(number) for number in range(HOT_STICKERS)]
    chosen = random.Random(f"{seed}/{user}")  # noqa: S311 - repeatable, not secret
    count = chosen.randint(FEWEST_STICKERS, MOST_STICKERS)
    return [_sticker(number) for number in sorted(chosen.sample(range(HOT_STICKERS), count))]


def owned_at_start(seed: int) -> dict[str, list[str]]:
    """The stickers of every user at the start, by user, the hot one included."""
    return {user: stickers_of(user, seed) for user in [*ordinary_users(), HOT_USER]}


def new_sticker(number: int) -> str:
    """A sticker that no user owns at the start."""
    return f"new-sticker-{number:06d}"


def _sticker(number: int) -> str:
    return f"sticker-{number:05d}"
