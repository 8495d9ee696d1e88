"""redis-py, sync and async: local breakers, deadlines and retry budgets of commands.

A call is one command or one pipeline. Its peer is host and port (or the socket's path); its name is
the command. A command is not cut off by a deadline once it is sent, as its connection could not be
used again; it is only not started. A lock is released in any case: others wait for it. Cluster
clients are left alone: they have no one peer.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final

from heatshield.counters import fail_open
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services
from heatshield.resilience.downstream import DOWNSTREAM, GIVING_BACK, Begun
from heatshield.resilience.local_breaker import Outcome

__all__ = ["NAME", "install", "remove"]

Naming = Callable[[Any, tuple[Any, ...]], str]

NAME: Final = "downstream_redis"

PIPELINE: Final = "PIPELINE"

PATIENT: Final = frozenset(
    {"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN",
     "WAIT", "WAITAOF", "XREAD", "XREADGROUP"}
)  # fmt: skip
"""Commands that may wait for something to happen; taking long says nothing of the server."""

MOST_LETTERS: Final = 32
"""Of a command's name; module commands are the longest."""

_PEER: Final = "_heatshield_peer"
_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Stand before every command, if the settings want anything of it.

    Raises:
        ImportError: if redis-py is not installed.
    """
    import redis.asyncio.client
    import redis.asyncio.lock
    import redis.client
    import redis.lock

    remove()
    if DOWNSTREAM.install(NAME, services.settings):
        _PATCHES.wrap(redis.client.Redis, "execute_command", _around(_command))
        _PATCHES.wrap(redis.client.Pipeline, "execute", _around(_pipeline))
        _PATCHES.wrap(redis.client.Pipeline, "immediate_execute_command", _around(_command))
        asynchronous = redis.asyncio.client
        _PATCHES.wrap(asynchronous.Redis, "execute_command", _around_async(_command))
        _PATCHES.wrap(asynchronous.Pipeline, "execute", _around_async(_pipeline))
        _PATCHES.wrap(asynchronous.Pipeline, "immediate_execute_command", _around_async(_command))
        _PATCHES.wrap(redis.lock.Lock, "do_release", _releasing)
        _PATCHES.wrap(redis.asyncio.lock.Lock, "do_release", _releasing_async)


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _around(name: Naming) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def execute(client: Any, *args: Any, **kwargs: Any) -> Any:
            begun, patient = _begin(client, args, name)
            if begun is None:
                return original(client, *args, **kwargs)
            try:
                reply = original(client, *args, **kwargs)
            except BaseException as error:
                _failed(begun, error, patient)
                raise
            begun.end(Outcome.SUCCESS, patient=patient)
            return reply

        return execute

    return wrap


def _around_async(
    name: Naming,
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(original)
        async def execute(client: Any, *args: Any, **kwargs: Any) -> Any:
            begun, patient = _begin(client, args, name)
            if begun is None:
                return await original(client, *args, **kwargs)
            try:
                reply = await original(client, *args, **kwargs)
            except BaseException as error:
                _failed(begun, error, patient)
                raise
            begun.end(Outcome.SUCCESS, patient=patient)
            return reply

        return execute

    return wrap


def _releasing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def release(lock: Any, *args: Any, **kwargs: Any) -> Any:
        token = GIVING_BACK.set(True)
        try:
            return original(lock, *args, **kwargs)
        finally:
            GIVING_BACK.reset(token)

    return release


def _releasing_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)
    async def release(lock: Any, *args: Any, **kwargs: Any) -> Any:
        token = GIVING_BACK.set(True)
        try:
            return await original(lock, *args, **kwargs)
        finally:
            GIVING_BACK.reset(token)

    return release


def _begin(client: Any, args: tuple[Any, ...], name: Naming) -> tuple[Begun | None, bool]:
    """Ask; whether the command may take its time is said beside the answer."""
    if DOWNSTREAM.idle:
        return None, False
    command = name(client, args)
    if not command:
        return None, False
    return DOWNSTREAM.begin(_peer(client), command), command in PATIENT


@fail_open(NAME, "")
def _command(_client: Any, args: tuple[Any, ...]) -> str:
    """The first word: redis-py takes a whole command in one text, too, with its keys."""
    word = args[0]
    text = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    return text.split(None, 1)[0].upper()[:MOST_LETTERS]


@fail_open(NAME, "")
def _pipeline(pipeline: Any, _args: tuple[Any, ...]) -> str:
    return PIPELINE if pipeline.command_stack else ""


@fail_open(NAME, "")
def _peer(client: Any) -> str:
    pool = client.connection_pool
    known = getattr(pool, _PEER, None)
    if known is None:
        known = _address(pool)
        setattr(pool, _PEER, known)
    return str(known)


def _address(pool: Any) -> str:
    kwargs = pool.connection_kwargs
    service = getattr(pool, "service_name", None)
    if service:
        return f"sentinel:{service}"
    if kwargs.get("path"):
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


@fail_open(NAME, None)
def _failed(begun: Begun, error: BaseException, patient: bool) -> None:  # noqa: FBT001  # ours alone
    from redis import exceptions

    if isinstance(error, exceptions.TimeoutError | exceptions.ConnectionError | OSError):
        outcome = Outcome.FAILURE
    elif isinstance(error, exceptions.ResponseError | exceptions.WatchError):
        # An answer, be it no. But BUSY says that a script has blocked the server.
        outcome = Outcome.FAILURE if str(error).startswith("BUSY ") else Outcome.SUCCESS
    elif isinstance(error, exceptions.InvalidResponse):
        outcome = Outcome.FAILURE
    else:
        outcome = Outcome.CUT
    begun.end(outcome, patient=patient)
