"""The users and what they own, from a seed: the seeding script and the load agree by computing.

Nothing is drawn at random by more than one place: the same seed gives the same users, stickers
and arrivals on any machine.
"""

import random
from typing import Final

__all__ = [
    "HOT_STICKERS",
    "HOT_USER",
    "ORDINARY_USERS",
    "new_sticker",
    "ordinary_users",
    "owned_at_start",
    "stickers_of",
]

HOT_USER: Final = "u-20000"
HOT_STICKERS: Final = 20_000
"""What the user of the story owned."""

ORDINARY_USERS: Final = 300
FEWEST_STICKERS: Final = 5
MOST_STICKERS: Final = 50


def ordinary_users() -> list[str]:
    """Everybody but the hot user."""
    return [f"u-{number:04d}" for number in range(1, ORDINARY_USERS + 1)]


def stickers_of(user: str, seed: int) -> list[str]:
    """What the user owns at the start: 20,000 for the hot user, 5 to 50 for any other."""
    if user == HOT_USER:
        return [_sticker(number) for number in range(HOT_STICKERS)]
    chosen = random.Random(f"{seed}/{user}")  # noqa: S311 - repeatable, not secret
    count = chosen.randint(FEWEST_STICKERS, MOST_STICKERS)
    return [_sticker(number) for number in sorted(chosen.sample(range(HOT_STICKERS), count))]


def owned_at_start(seed: int) -> dict[str, list[str]]:
    """Stickers by user, the hot user among them."""
    return {user: stickers_of(user, seed) for user in [*ordinary_users(), HOT_USER]}


def new_sticker(number: int) -> str:
    """A sticker that nobody owns at the start."""
    return f"new-sticker-{number:06d}"


def _sticker(number: int) -> str:
    return f"sticker-{number:05d}"
