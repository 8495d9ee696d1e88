"""redis-py, sync, async and cluster: a span a command or pipeline, with the elements it moves.

Our own patches and not OpenTelemetry's, which take as long as a command to a near server does. The
span does not become the current one, as nothing runs within it. A pipeline of 20,000 commands makes
one small span. Arguments are never sent, and keys only as patterns.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, cast

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_current
from opentelemetry.trace import Span, SpanKind

from heatshield.context.request import request_in
from heatshield.counters import fail_open
from heatshield.integrations.databases.redis_elements import elements_read, elements_written
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches, around, around_async
from heatshield.integrations.services import Services
from heatshield.names import COST_ELEMENTS, REDIS_ARGS_LENGTH, REDIS_KEY_PATTERN
from heatshield.sanitize.redis_keys import Patterns, key_of
from heatshield.tracing.failure import fail_without_stack, mark_refusal, text_of
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import add_cost
from heatshield.tracing.values import Attributes

__all__ = ["NAME", "install", "remove"]

NAME: Final = "redis"

MAX_STATEMENT_WORDS: Final = 8
"""Words of a command that are shown; they are question marks anyway."""

MAX_PIPELINE_NAMES: Final = 4
"""Different commands in a pipeline's name, which must be of low cardinality."""

_CONTAINERS: Final = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY",
     "MODULE", "OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO"}
)  # fmt: skip
"""Commands whose second word is part of their name."""

_UNKNOWN: Final = "unknown command"
"""How the server answers a command that it does not have."""

_SOME: Final = "COMMAND"
"""The name of such a command."""

_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})
"""Replies that hold no elements."""

_CONTRIB: Final = OtelContrib("redis", "RedisInstrumentor")
_TRACER: Final = PROVIDER.get_tracer("heatshield.redis")
_PATCHES: Final = Patches()
_PATTERNS: Final = Patterns()


def install(services: Services) -> None:
    """Patch every kind of client; replaces an earlier patch.

    Raises:
        ImportError: if redis-py is not installed.
    """
    del services
    from redis import asyncio, client, cluster

    _PATCHES.undo()
    for sync, pipeline in (
        (client.Redis, client.Pipeline),
        (cluster.RedisCluster, cluster.ClusterPipeline),
    ):
        _PATCHES.wrap(sync, "execute_command", around(_open, _end, _fail))
        _PATCHES.wrap(pipeline, "immediate_execute_command", around(_open, _end, _fail))
        following = around(_open_pipeline, _end_pipeline, _fail_pipeline)
        _PATCHES.wrap(pipeline, "execute", following)
    for asynchronous, batch in (
        (asyncio.Redis, asyncio.client.Pipeline),
        (asyncio.RedisCluster, asyncio.cluster.ClusterPipeline),
    ):
        _PATCHES.wrap(asynchronous, "execute_command", around_async(_open, _end, _fail))
        _PATCHES.wrap(batch, "immediate_execute_command", around_async(_open, _end, _fail))
        following_async = around_async(_open_pipeline, _end_pipeline, _fail_pipeline)
        _PATCHES.wrap(batch, "execute", following_async)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


# -- one command -----------------------------------------------------------------------------------


@fail_open("redis", None)
def _open(client: object, words: Sequence[object], _options: object) -> Span | None:
    context = get_current()
    if not words or context.get(_SUPPRESS_INSTRUMENTATION_KEY) or _CONTRIB.active:
        return None
    words = _apart(words)
    name = _name(words[0])
    pattern = _pattern(name, words)
    attributes = _attributes(client)
    attributes["db.query.text"] = _statement(name, pattern, len(words))
    attributes[REDIS_ARGS_LENGTH] = len(words)
    if pattern is not None:
        attributes[REDIS_KEY_PATTERN] = pattern
    elements = elements_written(words)
    if elements:
        attributes[COST_ELEMENTS] = elements
    return _TRACER.open(name, SpanKind.CLIENT, attributes, context)


def _apart(words: Sequence[object]) -> Sequence[object]:
    """The words of a command: the client takes ``"SET key value"`` and ``"CONFIG GET"`` as one."""
    first = words[0]
    if not isinstance(first, str | bytes) or len(first.split()) < 2:  # noqa: PLR2004  # it is one
        return words
    split = [part.decode("latin-1") if isinstance(part, bytes) else part for part in first.split()]
    if split[0].upper() in _CONTAINERS:
        split[:2] = [" ".join(split[:2])]
    return (*split, *words[1:])


def _name(word: object) -> str:
    return _named(word) if isinstance(word, str | bytes) else str(word).upper()


@lru_cache(1_024)
def _named(word: str | bytes) -> str:
    text = word.decode("latin-1") if isinstance(word, bytes) else str(word)
    return text if text.isupper() else text.upper()


def _pattern(name: str, words: Sequence[object]) -> str | None:
    key = key_of(name.partition(" ")[0], words)
    if key is None:
        return None
    request = request_in()
    if request is None or not request.user:
        return _PATTERNS.of(key)
    return _PATTERNS.of(key, (request.user, request.raw_user))


def _attributes(client: object) -> Attributes:
    attributes: Attributes = {"db.system.name": "redis"}
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        known = pool.connection_kwargs
        host = known.get("host") or known.get("path")
        if host is not None:
            attributes["server.address"] = host
            if port := known.get("port"):
                attributes["server.port"] = port
        if namespace := known.get("db"):
            attributes["db.namespace"] = str(namespace)
    return attributes


def _statement(name: str, pattern: str | None, words: int) -> str:
    """``SADD user:{id}:stickers ? ?``, cut where it gets long."""
    begun = name if pattern is None else f"{name} {pattern}"
    rest = words - (1 if pattern is None else 2)
    if rest <= MAX_STATEMENT_WORDS:
        return begun + " ?" * rest
    return f"{begun}{' ?' * MAX_STATEMENT_WORDS} ... ({words} words)"


@fail_open("redis", None)
def _end(span: Span, reply: object) -> None:
    try:
        if type(reply) not in _SCALARS:
            name = getattr(span, "name", "")
            add_cost(elements=elements_read(name, reply), span=span)
    finally:
        span.end()


@fail_open("redis", None)
def _fail(span: Span, error: BaseException) -> None:
    from redis.exceptions import NoScriptError, WatchError

    ordinary = (WatchError, NoScriptError)  # parts of their protocols
    try:
        if (
            isinstance(error, Exception)
            and not isinstance(error, ordinary)
            and not mark_refusal(span, error)
        ):
            message = text_of(error)
            if message.lower().startswith(_UNKNOWN):
                _forget_command(span)
            kind = type(error)
            fail_without_stack(span, f"{kind.__module__}.{kind.__qualname__}", message)
    finally:
        span.end()


def _forget_command(span: Span) -> None:
    """What the server takes for no command may be anything, a value too."""
    if span.is_recording():
        span.update_name(_SOME)
        span.set_attribute("db.query.text", _SOME)


# -- pipelines -------------------------------------------------------------------------------------


_Pipeline = tuple[Span, tuple[str, ...]]
"""A span, and the names of its commands."""


@fail_open("redis", None)
def _open_pipeline(pipeline: object, *_: object) -> _Pipeline | None:
    context = get_current()
    if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or _CONTRIB.active:
        return None
    commands = [_words(command) for command in _stack(pipeline)]
    if not commands:
        return None
    names = tuple(_name(words[0]) for words in commands)
    different = list(dict.fromkeys(names))
    more = " ..." if len(different) > MAX_PIPELINE_NAMES else ""
    attributes = _attributes(pipeline) | {
        "db.operation.batch.size": len(names),
        "db.query.text": f"PIPELINE of {len(names)}: {' '.join(different[:16])}",
    }
    pattern = _pattern(names[0], commands[0])
    if pattern is not None:
        attributes[REDIS_KEY_PATTERN] = pattern
    elements = sum(map(elements_written, commands))
    if elements:
        attributes[COST_ELEMENTS] = elements
    name = "PIPELINE " + " ".join(different[:MAX_PIPELINE_NAMES]) + more
    return _TRACER.open(name, SpanKind.CLIENT, attributes, context), names


def _stack(pipeline: object) -> Sequence[object]:
    """The commands that wait: a cluster's pipeline keeps them in its execution strategy."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    for owner in (strategy, pipeline):
        for name in ("command_stack", "_command_queue", "command_queue", "_command_stack"):
            stack = getattr(owner, name, None)
            if stack is not None:
                return list(stack)
    return ()


def _words(command: object) -> Sequence[object]:
    """The words of a command that waits: an object of its own, or a tuple that begins with them."""
    words = getattr(command, "args", None) or cast("Sequence[object]", command)[0]
    return _apart(cast("Sequence[object]", words))


@fail_open("redis", None)
def _end_pipeline(pipeline: _Pipeline, replies: object) -> None:
    span, names = pipeline
    try:
        if isinstance(replies, list):
            read = sum(
                elements_read(name, reply)
                for name, reply in zip(names, replies, strict=False)
                if type(reply) not in _SCALARS
            )
            add_cost(elements=read, span=span)
    finally:
        span.end()


def _fail_pipeline(pipeline: _Pipeline, error: BaseException) -> None:
    _fail(pipeline[0], error)
