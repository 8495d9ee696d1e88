"""Which key a Redis command is about, as a pattern: ``user:17:stickers`` is ``user:{id}:stickers``.

A pattern says which collection of the platform's is being rewritten; the key itself would say
whose, and there are as many keys as users. Pure.
"""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["SCRIPTS", "SCRIPT_KEYS_AT", "Patterns", "key_of", "pattern_of", "script_keys"]

ID: Final = "{id}"

MAX_KEY: Final = 256
"""Characters of a key that are looked at."""

MAX_WORD: Final = 32
"""Letters of a part of a key that may still be a name of the service's choosing."""

MAX_PATTERNS: Final = 1_024
"""Different patterns of a process; more means that keys carry ids we don't recognise."""

SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
"""COMMAND script numkeys key [key ...] argument [argument ...]."""

SCRIPT_KEYS_AT: Final = 3

_KEY_AT: Final = {"BITOP": 2, "OBJECT": 2, "XGROUP": 2, "XINFO": 2, "MEMORY": 2}
"""Where the first key stands, if not right after the command."""

_AFTER_STREAMS: Final = frozenset({"XREAD", "XREADGROUP"})

_KEYLESS: Final = frozenset(
    {"ACL", "AUTH", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "DISCARD", "ECHO", "EXEC",
     "FLUSHALL", "FLUSHDB", "FUNCTION", "HELLO", "INFO", "KEYS", "LATENCY", "MODULE", "MULTI",
     "PING", "PUBLISH", "PUBSUB", "RANDOMKEY", "ROLE", "SCAN", "SCRIPT", "SELECT", "SLOWLOG",
     "TIME", "UNWATCH", "WAIT"}
)  # fmt: skip

_VERSION: Final = re.compile(r"v\d{1,3}")
_WORD: Final = re.compile(
    r"_?[a-z]+(?:[_-]{1,2}[a-z]+)*_?|[a-z]+(?:[A-Z][a-z]+)*|(?:[A-Z][a-z]+)+"  # snake, camel
)
"""A name as programs write it; other letters (``QkzTRa``) are a token's as likely as not."""

_NAMESPACE: Final = re.compile(r"[A-Z]+(?:_[A-Z]+)*")
"""A name that more must follow: a key in capitals and nothing else may be a value."""

_SEPARATED: Final = re.compile(r"([:/|{}#])")


def key_of(command: str, words: Sequence[object]) -> str | None:
    """The first key of a command, or ``None`` if it has none.

    Args:
        command: its name in upper case, without a subcommand.
        words: the command and its arguments.
    """
    if command in _KEYLESS:
        return None
    at = _KEY_AT.get(command, 1)
    if command in SCRIPTS:
        at = SCRIPT_KEYS_AT if script_keys(words) else len(words)
    elif command in _AFTER_STREAMS:
        shown = [str(word) for word in words[:16]]
        at = shown.index("STREAMS") + 1 if "STREAMS" in shown else len(words)
    if at >= len(words):
        return None
    key = words[at]
    text = key[:MAX_KEY].decode("latin-1") if isinstance(key, bytes) else str(key)
    return text[:MAX_KEY]


def script_keys(words: Sequence[object]) -> int:
    """How many keys a script is called with."""
    count = words[SCRIPT_KEYS_AT - 1] if len(words) >= SCRIPT_KEYS_AT else 0
    said = str(count)
    return int(said) if said.isdecimal() else 0


def pattern_of(key: str, ids: Sequence[str] = ()) -> str:
    """The pattern of a key: each part that looks like an id, or like no word, becomes ``{id}``.

    Args:
        key: of a command.
        ids: known ones, which may look like words.
    """
    for known in ids:
        if known and _SEPARATED.search(known) is not None:
            key = key.replace(known, "0")  # is an id for sure, and one part
    parts = _SEPARATED.split(key)
    last = len(parts) - 1
    return "".join(
        part if at % 2 else _part(part, ids, is_last=at == last) for at, part in enumerate(parts)
    )


def _part(part: str, ids: Sequence[str], *, is_last: bool) -> str:
    if not part:
        return part
    if part in ids or len(part) > MAX_WORD:
        return ID
    if _VERSION.fullmatch(part) or _WORD.fullmatch(part):
        return part
    return part if not is_last and _NAMESPACE.fullmatch(part) else ID


class Patterns:
    """The patterns that a process has seen: a bounded number."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, key: str, ids: Sequence[str] = ()) -> str:
        """The pattern of a key; ``{id}`` once there are too many."""
        pattern = pattern_of(key, ids)
        if pattern not in self._seen:
            if len(self._seen) >= MAX_PATTERNS:
                return ID
            self._seen.add(pattern)
        return pattern
