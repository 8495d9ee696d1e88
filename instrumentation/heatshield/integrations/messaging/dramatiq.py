"""Dramatiq: trace and user travel in a message's options; each run of an actor is a call.

A refused message is **skipped**, as if a middleware of the service's had raised ``SkipMessage``: it
is acknowledged and not retried, and the worker says so in a warning. An actor that is called and
not sent is part of its caller's work.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, Protocol

from heatshield.context.attachment import reset
from heatshield.counters import fail_open
from heatshield.integrations.messaging.job import Jobs, Quietly, Run, elements_in
from heatshield.integrations.patches import Original, Patches, before
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "dramatiq"

OPTION: Final = "heatshield"
"""Of a message: its headers."""

_PATCHES: Final = Patches()


class _Actor(Protocol):
    """What is used of an actor."""

    actor_name: str
    queue_name: str


class _Message(Protocol):
    """What is used of a message."""

    actor_name: str
    queue_name: str
    message_id: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    options: dict[str, Any]


def install(services: Services) -> None:
    """Patch actors and workers; replaces an earlier patch.

    Raises:
        ImportError: if Dramatiq is not installed.
    """
    from dramatiq import worker
    from dramatiq.actor import Actor

    _PATCHES.undo()
    jobs = Jobs(NAME, services)
    _PATCHES.wrap(Actor, "message_with_options", _making(jobs))
    _PATCHES.wrap(Actor, "send_with_options", _sending(jobs))
    _PATCHES.wrap(Actor, "__call__", _calling(jobs))
    _PATCHES.wrap(worker.Worker, "start", before(services.working))
    for name in ("_WorkerThread", "_ConsumerThread"):
        thread = getattr(worker, name)
        _PATCHES.wrap(thread, "run", _quietly)
        _PATCHES.wrap(thread, "process_message", _processing)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


def _making(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def message_with_options(self: _Actor, *args: object, **options: object) -> object:
            message = original(self, *args, **options)
            headers = jobs.headers()
            known = getattr(message, "options", None)
            if headers and isinstance(known, dict):
                known.setdefault(OPTION, headers)
            return message

        return message_with_options

    return wrap


def _sending(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def send_with_options(self: _Actor, *args: object, **options: object) -> object:
            with jobs.sending(self.actor_name, self.queue_name):
                return original(self, *args, **options)

        return send_with_options

    return wrap


_MESSAGE: Final[ContextVar[_Message | None]] = ContextVar("heatshield-dramatiq", default=None)
"""The message that a worker processes, until its actor has begun."""


def _processing(original: Original) -> Original:
    @wraps(original)
    def process_message(self: object, message: _Message) -> object:
        token = _MESSAGE.set(message)
        try:
            return original(self, message)
        finally:
            reset(_MESSAGE, token)

    return process_message


def _calling(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def call(self: _Actor, /, *args: object, **kwargs: object) -> object:
            message = _MESSAGE.get()
            if message is None or message.actor_name != self.actor_name:
                return original(self, *args, **kwargs)
            token = _MESSAGE.set(None)
            try:
                run = _run(jobs, message)
                if run is None:
                    return original(self, *args, **kwargs)
                return _within(run, original, self, *args, **kwargs)
            finally:
                reset(_MESSAGE, token)

        return call

    return wrap


def _within(run: Run, original: Original, /, *args: object, **kwargs: object) -> object:
    from dramatiq.middleware import SkipMessage

    try:
        with run:
            return original(*args, **kwargs)
    except Exception as error:
        if run.refused is None:
            raise
        raise SkipMessage(str(run.refused)) from error


@fail_open(NAME, None)
def _run(jobs: Jobs, message: _Message) -> Run | None:
    options = message.options
    named = {name: str(options[name]) for name in jobs.named if name in options}
    carried = options.get(OPTION)
    headers = {**named, **(carried if isinstance(carried, dict) else {})}
    given = elements_in(*message.args, *message.kwargs.values())
    return jobs.run(
        message.actor_name,
        {str(name): str(value) for name, value in headers.items()},
        queue=message.queue_name,
        job_id=message.message_id,
        elements=given,
    )


def _quietly(original: Original) -> Original:
    @wraps(original)
    def run(self: object) -> object:
        with Quietly():
            return original(self)

    return run
