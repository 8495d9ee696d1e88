"""Stores which user owns which sticker: in a SQLite database, cached in one Redis set per user.

A refresh rewrites the whole set in one transaction: delete it, add every member again. That is
simple and always right, but its cost grows with the user's stickers, which is the shop's problem.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import redis
import redis.asyncio

__all__ = ["add", "fill_cache", "open_database", "owned_by", "owns", "refresh", "seed_database"]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ownership (
    user TEXT NOT NULL,
    sticker TEXT NOT NULL,
    PRIMARY KEY (user, sticker)
) WITHOUT ROWID
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, creating it if need be. Readers don't wait for the writer (WAL)."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(SCHEMA)
    return database


def add(database: sqlite3.Connection, user: str, sticker: str) -> None:
    """Record that the user owns the sticker; a second time changes nothing."""
    with database:
        database.execute("INSERT OR IGNORE INTO ownership VALUES (?, ?)", (user, sticker))


def owned_by(database: sqlite3.Connection, user: str) -> list[str]:
    """Every sticker that the user owns."""
    rows = database.execute("SELECT sticker FROM ownership WHERE user = ?", (user,))
    return [sticker for (sticker,) in rows]


async def refresh(cache: redis.asyncio.Redis, user: str, stickers: Sequence[str]) -> None:
    """Make the user's set in the cache exactly these stickers (one or more)."""
    async with cache.pipeline(transaction=True) as pipeline:
        pipeline.delete(_key(user))
        pipeline.sadd(_key(user), *stickers)
        await pipeline.execute()


async def owns(cache: redis.asyncio.Redis, user: str, sticker: str) -> bool:
    """Whether the sticker is in the user's set."""
    return bool(await cache.sismember(_key(user), sticker))


def seed_database(database: sqlite3.Connection, owned: Mapping[str, Iterable[str]]) -> None:
    """Write the stickers that users own at the start, by user."""
    rows = [(user, sticker) for user, stickers in owned.items() for sticker in stickers]
    with database:
        database.executemany("INSERT OR IGNORE INTO ownership VALUES (?, ?)", rows)


def fill_cache(cache: redis.Redis, owned: Mapping[str, Sequence[str]]) -> None:
    """Write the sets of all users in one go."""
    pipeline = cache.pipeline(transaction=False)
    for user, stickers in owned.items():
        pipeline.sadd(_key(user), *stickers)
    pipeline.execute()


def _key(user: str) -> str:
    return f"user:{user}:stickers"
