"""pymongo, sync and asyncio: a span a command, with the documents it reads or writes as rows.

pymongo tells listeners of every command; ours listens to all clients that are made from now on.
Each page of a cursor is a command of its own (``getMore``), as each is a call of the server.
"""

from asyncio import CancelledError
from collections.abc import Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Final

from pymongo import monitoring

from heatshield.counters import fail_open
from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import AsyncOriginal, Patches
from heatshield.integrations.services import Services
from heatshield.sanitize.mongo_shape import (
    collection_of,
    documents_moved,
    documents_sent,
    shape_of,
)
from heatshield.tracing.values import Attributes

__all__ = ["NAME", "install", "remove"]

NAME: Final = "pymongo"

_STATEMENTS: Final = Statements(NAME, OtelContrib("pymongo", "PymongoInstrumentor"))
_PATCHES: Final = Patches()

_HOUSEKEEPING: Final = frozenset(
    {"hello", "ismaster", "saslstart", "saslcontinue", "authenticate", "endsessions", "killcursors"}
)
"""Commands that the driver sends by itself."""


class _Running:
    """The command that runs in a context; in one context they follow each other."""

    __slots__ = ("request_id", "sent", "statement")

    def __init__(self, request_id: int, statement: Statement, sent: int) -> None:
        self.request_id = request_id
        self.statement = statement
        self.sent = sent


_RUNNING: Final[ContextVar[_Running | None]] = ContextVar("heatshield-mongo-command", default=None)
"""In the context and not in a table: pymongo never tells that a cancelled command ended."""


def install(_services: Services) -> None:
    """Listen to the commands of clients that are made from now on; replaces an earlier listener."""
    from pymongo.asynchronous import command_runner

    remove()
    _Listener.active = True
    monitoring.register(_LISTENER)
    _PATCHES.wrap(command_runner, "_run_command", _noticing_cancellation)


def remove() -> None:
    """Stop listening."""
    _PATCHES.undo()
    _Listener.active = False
    listeners = monitoring._LISTENERS.command_listeners  # noqa: SLF001  # nothing public removes one
    if _LISTENER in listeners:
        listeners.remove(_LISTENER)


class _Listener(monitoring.CommandListener):
    """Opens and ends the spans.

    Attributes:
        active: clients keep the listeners they were made with, so events may come after removal.
    """

    active = False

    @fail_open(NAME, None)
    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command is about to be sent."""
        name = event.command_name
        if not self.active or name.lower() in _HOUSEKEEPING:
            return
        _RUNNING.set(None)  # a command that was given up
        sent = documents_sent(event.command)
        statement = _STATEMENTS.open_command(*_described(event, name, sent))
        if statement is not None:
            _RUNNING.set(_Running(event.request_id, statement, sent))

    @fail_open(NAME, None)
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """The server answered; an answer may hold errors of single writes."""
        running = _ended(event.request_id)
        if running is None:
            return
        errors = event.reply.get("writeErrors")
        if errors:
            _mark(running.statement, "WriteError", errors[0])
        running.statement.end(documents_moved(event.command_name, event.reply, running.sent))

    @fail_open(NAME, None)
    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """The server refused it, or the connection was lost."""
        running = _ended(event.request_id)
        if running is not None:
            _mark(running.statement, "OperationFailure", event.failure)
            running.statement.end()


_LISTENER: Final = _Listener()


def _described(
    event: monitoring.CommandStartedEvent, name: str, sent: int
) -> tuple[str, Attributes]:
    collection = collection_of(event.command, name)
    summary = f"{name} {collection}" if collection else name
    attributes: Attributes = {
        "db.system.name": "mongodb",
        "db.namespace": event.database_name,
        "db.query.text": shape_of(event.command) if event.command else name,
        "db.query.summary": summary,
        "db.operation.name": name,
    }
    if collection:
        attributes["db.collection.name"] = collection
    if event.connection_id:
        attributes["server.address"], port = event.connection_id
        if port is not None:
            attributes["server.port"] = port
    if sent > 1:
        attributes["db.operation.batch.size"] = sent
    return summary, attributes


def _ended(request_id: int) -> _Running | None:
    running = _RUNNING.get()
    if running is None or running.request_id != request_id:
        return None
    _RUNNING.set(None)
    return running


def _noticing_cancellation(run: AsyncOriginal) -> AsyncOriginal:
    @wraps(run)
    async def noticed(*args: object, **kwargs: object) -> object:
        try:
            return await run(*args, **kwargs)
        except CancelledError:
            running = _RUNNING.get()
            if running is not None:
                _RUNNING.set(None)
                running.statement.end()
            raise

    return noticed


def _mark(statement: Statement, fallback: str, failure: Mapping[str, object]) -> None:
    name = failure.get("codeName") or failure.get("errtype") or fallback
    code = failure.get("code")
    statement.mark_failed(
        str(name),
        str(failure.get("errmsg", "")),
        str(code) if isinstance(code, int) else "",
    )
