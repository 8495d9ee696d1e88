"""How many collection elements a Redis command writes or reads: pure, from its words and reply.

Written elements are counted from the command, for the reply to ``SADD`` says only how many were
new. Read elements are counted from the reply. Commands about the server itself count nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from heatshield.sanitize.redis_keys import SCRIPT_KEYS_AT, SCRIPTS, script_keys

__all__ = ["elements_read", "elements_written"]

_AFTER_KEY: Final = frozenset(
    {"SADD", "SREM", "LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "ZREM", "HDEL", "PFADD"}
)
"""COMMAND key element [element ...]: one element a word."""

_KEYS: Final = frozenset({"DEL", "UNLINK"})
"""COMMAND key [key ...]: one element a word."""

_PAIRS_AFTER_KEY: Final = frozenset({"HSET", "HMSET"})
"""COMMAND key field value [field value ...]: one element for two words."""

_PAIRS: Final = frozenset({"MSET", "MSETNX"})
"""COMMAND key value [key value ...]: one element for two words."""

_ONE: Final = frozenset(
    {"SET", "SETEX", "PSETEX", "SETNX", "GETSET", "APPEND", "LSET", "HSETNX", "XADD"}
)

_SHAPES: Final = ((_AFTER_KEY, 2, 1), (_KEYS, 1, 1), (_PAIRS_AFTER_KEY, 2, 2), (_PAIRS, 1, 2))
"""Commands, words before their first element, words an element."""

_ZADD_OPTIONS: Final = frozenset({"NX", "XX", "GT", "LT", "CH", "INCR"})

_SERVER: Final = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "HELLO", "INFO", "LATENCY",
     "MEMORY", "MODULE", "PUBSUB", "ROLE", "SCRIPT", "SLOWLOG", "TIME"}
)  # fmt: skip
"""Their replies describe the server, not a user's data."""

_CURSOR_REPLY_LENGTH: Final = 2
"""SCAN and its kin answer (cursor, elements)."""


def elements_written(words: Sequence[object]) -> int:
    """Elements that a command, its name first, writes or deletes; 0 for one that only reads."""
    if not words:
        return 0
    command = _name(words[0])
    if command == "ZADD":
        options = sum(_name(word) in _ZADD_OPTIONS for word in words[2:8] if isinstance(word, str))
        return max(0, (len(words) - 2 - options) // 2)
    if command in _ONE:
        return 1
    if command in SCRIPTS:  # its keys are few; its arguments may be a whole collection
        return max(0, len(words) - SCRIPT_KEYS_AT - script_keys(words))
    return next(
        (
            max(0, len(words) - skipped) // words_each
            for commands, skipped, words_each in _SHAPES
            if command in commands
        ),
        0,
    )


def elements_read(command: str, reply: object) -> int:
    """Elements in a reply: members of a list, set or mapping; 0 for a scalar."""
    name = _name(command)
    if name in _SERVER:
        return 0
    if name.endswith("SCAN") and isinstance(reply, tuple) and len(reply) == _CURSOR_REPLY_LENGTH:
        reply = reply[1]
    if isinstance(reply, Mapping | list | set | frozenset | tuple):
        return len(reply)
    return 0


def _name(word: object) -> str:
    """``CONFIG`` for ``CONFIG GET``, which is one word to the client."""
    text = word.decode("latin-1") if isinstance(word, bytes) else str(word)
    return text.partition(" ")[0].upper()
