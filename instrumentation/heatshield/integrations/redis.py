"""redis-py, sync and async: spans through OpenTelemetry's instrumentation, with their elements.

OpenTelemetry names a pipeline's span after all of its commands and writes all of them into its
statement. Both are cut here: a pipeline of 20,000 commands must not make a span of megabytes.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span

from heatshield.counters import fail_open
from heatshield.integrations.equipment import Equipment
from heatshield.integrations.redis_elements import elements_read, elements_written
from heatshield.spans import add_cost

__all__ = ["NAME", "install", "remove"]

NAME: Final = "redis"

_PATCHED: Final = "_heatshield_original"

STATEMENT: Final = "db.statement"
MAX_STATEMENT_WORDS: Final = 8
"""Words of a command that are shown; they are question marks anyway."""

MAX_PIPELINE_NAMES: Final = 4
"""Different commands in a pipeline's name, which must be of low cardinality."""

_NO_NAMES: Final[tuple[str, ...]] = ()


def install(equipment: Equipment) -> None:
    """Instrument every client.

    Raises:
        ImportError: if redis-py is not installed.
    """
    del equipment
    import redis  # noqa: F401  # absent: say so before the instrumentation logs an error
    from opentelemetry.instrumentation.redis import RedisInstrumentor

    instrumentor = RedisInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        _wrap_pipelines()  # inside of OpenTelemetry's wrapper, so that its span is current
        instrumentor.instrument(
            request_hook=_on_command, response_hook=_on_reply, skip_dep_check=True
        )


@fail_open("redis", None)
def _on_command(span: Span, _client: Any, words: Sequence[Any], _options: Any) -> None:
    if not span.is_recording():
        return
    if len(words) > MAX_STATEMENT_WORDS:
        shown = " ".join([str(words[0]), *["?"] * (MAX_STATEMENT_WORDS - 1)])
        span.set_attribute(STATEMENT, f"{shown} ... ({len(words)} words)")
    add_cost(elements=elements_written(words), span=span)


@fail_open("redis", None)
def _on_reply(span: Span, _client: Any, reply: Any) -> None:
    command = getattr(span, "name", "")
    if span.is_recording() and not command.startswith("PIPELINE"):
        add_cost(elements=elements_read(command, reply), span=span)


def remove() -> None:
    """Take the instrumentation out again."""
    from opentelemetry.instrumentation.redis import RedisInstrumentor

    instrumentor = RedisInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
        for pipeline, _ in _pipelines():
            pipeline.execute = getattr(pipeline.execute, _PATCHED, pipeline.execute)


def _pipelines() -> list[tuple[Any, Callable[[Callable[..., Any]], Callable[..., Any]]]]:
    from redis.asyncio.client import Pipeline as AsyncPipeline
    from redis.client import Pipeline

    return [(Pipeline, _counting), (AsyncPipeline, _counting_async)]


def _wrap_pipelines() -> None:
    for pipeline, counting in _pipelines():
        counted = counting(pipeline.execute)
        setattr(counted, _PATCHED, pipeline.execute)
        pipeline.execute = counted


def _counting(execute: Callable[..., Any]) -> Callable[..., Any]:
    def counted(pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        commands = _describe(pipeline)
        replies = execute(pipeline, *args, **kwargs)
        _count_replies(commands, replies)
        return replies

    return counted


def _counting_async(execute: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def counted(pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        commands = _describe(pipeline)
        replies = await execute(pipeline, *args, **kwargs)
        _count_replies(commands, replies)
        return replies

    return counted


@fail_open("redis", _NO_NAMES)
def _describe(pipeline: Any) -> tuple[str, ...]:
    """Name the pipeline's span and count what it writes; returns its commands' names."""
    span = get_current_span()
    commands = [getattr(command, "args", None) or command[0] for command in pipeline.command_stack]
    if not span.is_recording() or not commands:
        return ()
    names = tuple(str(words[0]) for words in commands)
    different = list(dict.fromkeys(names))
    more = " ..." if len(different) > MAX_PIPELINE_NAMES else ""
    span.update_name("PIPELINE " + " ".join(different[:MAX_PIPELINE_NAMES]) + more)
    span.set_attribute(STATEMENT, f"PIPELINE of {len(names)}: {' '.join(different[:16])}")
    add_cost(elements=sum(elements_written(words) for words in commands), span=span)
    return names


@fail_open("redis", None)
def _count_replies(commands: tuple[str, ...], replies: Any) -> None:
    if commands and isinstance(replies, list):
        pairs = zip(commands, replies, strict=False)
        add_cost(elements=sum(elements_read(name, reply) for name, reply in pairs))
