"""redis-py, sync and async: local breakers, deadlines and retry budgets of commands.

A call is one command or one pipeline. Its peer is host and port (or the socket's path); its name is
the command. A deadline keeps a command from starting and never cuts it off once it is sent, as its
connection could not be used again. A lock is released in any case: others wait for it. Cluster
clients are left alone: they have more than one peer.
"""

from collections.abc import Callable
from functools import wraps
from typing import Final, NamedTuple, Protocol

from heatshield.context.attachment import reset
from heatshield.counters import fail_open
from heatshield.integrations.patches import (
    AsyncOriginal,
    AsyncWrapper,
    Original,
    Patches,
    Wrapper,
    around,
    around_async,
)
from heatshield.integrations.services import Services
from heatshield.resilience.downstream import DOWNSTREAM, GIVING_BACK, Begun
from heatshield.resilience.local_breaker import Outcome

__all__ = ["NAME", "install", "remove"]

NAME: Final = "downstream_redis"

PIPELINE: Final = "PIPELINE"

PATIENT: Final = frozenset(
    {"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN",
     "WAIT", "WAITAOF", "XREAD", "XREADGROUP"}
)  # fmt: skip
"""Commands that wait for something to happen: a long one says nothing of the server."""

MOST_LETTERS: Final = 32
"""Letters of a command's name; module commands are the longest."""

_PEER: Final = "_heatshield_peer"
_PATCHES: Final = Patches()


class _Pool(Protocol):
    connection_kwargs: dict[str, object]


class _Client(Protocol):
    """What is used of a client or a pipeline."""

    connection_pool: _Pool


class _Pipeline(_Client, Protocol):
    command_stack: list[object]


class _Asked(NamedTuple):
    """A command that was let through, and whether it may take its time."""

    begun: Begun
    patient: bool


Naming = Callable[..., str]
"""Tells the name of a call from the client and the arguments."""


def install(services: Services) -> None:
    """Ask before each command, if the settings want anything asked.

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
    """Take the patches out again."""
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _around(name: Naming) -> Wrapper:
    return around(_beginning(name), _end, _failed)


def _around_async(name: Naming) -> AsyncWrapper:
    return around_async(_beginning(name), _end, _failed)


def _releasing(original: Original) -> Original:
    @wraps(original)
    def release(lock: object, *args: object, **kwargs: object) -> object:
        token = GIVING_BACK.set(True)
        try:
            return original(lock, *args, **kwargs)
        finally:
            reset(GIVING_BACK, token)

    return release


def _releasing_async(original: AsyncOriginal) -> AsyncOriginal:
    @wraps(original)
    async def release(lock: object, *args: object, **kwargs: object) -> object:
        token = GIVING_BACK.set(True)
        try:
            return await original(lock, *args, **kwargs)
        finally:
            reset(GIVING_BACK, token)

    return release


def _beginning(name: Naming) -> Callable[..., _Asked | None]:
    def begin(client: _Client, args: tuple[object, ...], _options: object) -> _Asked | None:
        if DOWNSTREAM.idle:
            return None
        command = name(client, args)
        if not command:
            return None
        begun = DOWNSTREAM.begin(_peer(client), command)
        return None if begun is None else _Asked(begun, command in PATIENT)

    return begin


@fail_open(NAME, "")
def _command(_client: object, args: tuple[object, ...]) -> str:
    """The first word: redis-py also takes a whole command in one text, with its keys."""
    word = args[0]
    text = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    return text.split(None, 1)[0].upper()[:MOST_LETTERS]


@fail_open(NAME, "")
def _pipeline(pipeline: _Pipeline, _args: tuple[object, ...]) -> str:
    return PIPELINE if pipeline.command_stack else ""


@fail_open(NAME, "")
def _peer(client: _Client) -> str:
    pool = client.connection_pool
    known = getattr(pool, _PEER, None)
    if known is None:
        known = _address(pool)
        setattr(pool, _PEER, known)
    return str(known)


def _address(pool: _Pool) -> str:
    kwargs = pool.connection_kwargs
    service = getattr(pool, "service_name", None)
    if service:
        return f"sentinel:{service}"
    if kwargs.get("path"):
        return str(kwargs["path"])
    return f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"


def _end(asked: _Asked, _reply: object) -> None:
    asked.begun.end(Outcome.SUCCESS, patient=asked.patient)


@fail_open(NAME, None)
def _failed(asked: _Asked, error: BaseException) -> None:
    from redis import exceptions

    if isinstance(error, exceptions.TimeoutError | exceptions.ConnectionError | OSError):
        outcome = Outcome.FAILURE
    elif isinstance(error, exceptions.ResponseError | exceptions.WatchError):
        # The server answered. But BUSY says that a script has blocked it.
        outcome = Outcome.FAILURE if str(error).startswith("BUSY ") else Outcome.SUCCESS
    elif isinstance(error, exceptions.InvalidResponse):
        outcome = Outcome.FAILURE
    else:
        outcome = Outcome.CUT
    asked.begun.end(outcome, patient=asked.patient)
