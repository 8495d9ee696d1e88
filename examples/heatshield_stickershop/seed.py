"""Fills the shop's database and Redis: ``python -m heatshield_stickershop.seed``.

Reads ``STICKERSHOP_DATABASE`` and ``STICKERSHOP_REDIS_URL``, as the services do.
"""

import os
from contextlib import closing
from pathlib import Path

import redis

from heatshield_stickershop import ownership, population

__all__ = ["main", "seed"]


def seed(database: Path, redis_url: str, number: int) -> None:
    """Write every user's stickers at the start; ``number`` is the seed."""
    owned = population.owned_at_start(number)
    with closing(ownership.open_database(database)) as connection:
        ownership.seed_database(connection, owned)
    with closing(redis.Redis.from_url(redis_url)) as cache:
        ownership.fill_cache(cache, owned)


def main() -> None:
    """Seed with the number in ``STICKERSHOP_SEED``, or 1."""
    seed(
        Path(os.environ["STICKERSHOP_DATABASE"]),
        os.environ["STICKERSHOP_REDIS_URL"],
        int(os.environ.get("STICKERSHOP_SEED", "1")),
    )


if __name__ == "__main__":
    main()
