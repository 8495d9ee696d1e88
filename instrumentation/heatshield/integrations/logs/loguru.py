"""loguru: each record that reaches a sink of the service is also exported, once.

No sink is added: ``logger.remove()`` and ``logger.configure()``, with which services begin, would
take it out again, and the ids of the service's own sinks would change. So the logger's ``_log`` is
wrapped, and in its handlers' ``emit`` the record is read, as patchers and filters have left it.
"""

import inspect
import logging.handlers
from typing import Any, Final

from heatshield.counters import fail_open
from heatshield.export.logs import LogEvent, error_in, event_of, exception_attributes
from heatshield.integrations.logs.deduplicate import Emission, current
from heatshield.integrations.logs.frame_disguise import Place, Tap
from heatshield.integrations.logs.log_tee import LogTee, current_ids, ids_text
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "loguru"

_KNOWN_ARGUMENTS: Final = (
    "self", "level", "from_decorator", "options", "message", "args", "kwargs",
)  # fmt: skip

_DEPTH: Final = 1
"""Where the frames to skip stand among the options of a logger."""


class _Writing(Emission):
    """One record on its way to the sinks."""

    def __init__(self, said: object) -> None:
        super().__init__(said)
        self.record: dict[str, Any] | None = None
        self.ids: dict[str, str] = {}
        self.suffix = ""
        self.writes = 0


_TAP: Final = Tap()


def install(services: Services) -> None:
    """Export every record.

    Raises:
        ImportError: if loguru is not installed.
        RuntimeError: if it is one whose inside is not known.
    """
    from loguru._handler import Handler
    from loguru._logger import Logger
    from loguru._simple_sinks import CallableSink, StandardSink

    found = tuple(inspect.signature(vars(Logger)["_log"]).parameters)
    if found != _KNOWN_ARGUMENTS:
        raise RuntimeError(f"this version of loguru is not known: {found}")
    places = [
        Place(Logger, "_log", _logging),
        Place(Handler, "emit", _emitting),
        Place(Handler, "_protected_lock", _writing),
        Place(StandardSink, "write", _writing_elsewhere),
        Place(CallableSink, "write", _writing_elsewhere),
        Place(logging.handlers.QueueListener, "handle", _handling_elsewhere),
    ]
    _TAP.put_in(LogTee(services, NAME), places)


def remove() -> None:
    """Let records go where they went before."""
    _TAP.take_out()


def _logging(tap: Tap, original: Any) -> Any:
    def _log(
        self: Any,
        level: Any,
        from_decorator: Any,
        options: Any,
        message: Any,
        args: Any,
        kwargs: Any,
    ) -> None:
        # One frame more to skip on the way to the caller.
        options = (options[0], options[_DEPTH] + 1, *options[_DEPTH + 1 :])
        tee = tap.tee
        if tee is None or (current() is None and _is_below(self, level)):
            original(self, level, from_decorator, options, message, args, kwargs)
            return
        writing = _Writing(message if isinstance(message, str) else "")
        if tee.console_ids and writing.outer is None:
            shown = _with_ids(writing, self, options, message, args, kwargs)
            message, options = shown or (message, options)
        try:
            original(self, level, from_decorator, options, message, args, kwargs)
        finally:
            if writing.close():
                tee.send(_event, writing)

    return _log


def _emitting(tap: Tap, original: Any) -> Any:
    del tap

    def emit(self: Any, record: Any, *rest: Any, **more: Any) -> None:
        writing = current()
        if type(writing) is not _Writing:
            original(self, record, *rest, **more)
            return
        writing.record, writing.said = record, record.get("message", "")
        before = writing.writes, writing.relays
        try:
            original(self, record, *rest, **more)
        finally:
            if writing.writes > before[0] and writing.relays == before[1]:
                writing.reached = True

    return emit


def _writing(tap: Tap, original: Any) -> Any:
    """A handler takes its lock once its level and filter have let a record through."""
    del tap

    def _protected_lock(self: Any) -> Any:
        writing = current()
        if type(writing) is _Writing:
            writing.writes += 1
        return original(self)

    return _protected_lock


def _writing_elsewhere(tap: Tap, original: Any) -> Any:
    """With ``enqueue=True`` a thread writes what was exported where it was said."""

    def write(self: Any, message: Any) -> None:
        if tap.tee is None or current() is not None:
            original(self, message)
            return
        exported = Emission(getattr(message, "record", {}).get("message", ""))
        try:
            original(self, message)
        finally:
            exported.close()

    return write


def _handling_elsewhere(tap: Tap, original: Any) -> Any:
    """Likewise, from a queue of the standard library into a handler that leads to loguru."""

    def handle(self: Any, record: Any) -> None:
        if tap.tee is None:
            original(self, record)
            return
        exported = Emission(record)
        try:
            original(self, record)
        finally:
            exported.close()

    return handle


def _is_below(logger: Any, level: Any) -> bool:
    """Whether no sink wants this level, which is then not worth a look."""
    core = logger._core  # noqa: SLF001  # nothing public says it
    known = core.levels_lookup.get(level) if isinstance(level, str | int) else None
    return known is not None and known[2] < core.min_level


@fail_open("loguru", None)
def _with_ids(
    writing: _Writing, logger: Any, options: Any, message: Any, args: Any, kwargs: Any
) -> tuple[Any, Any]:
    """Message and options with the ids: behind the text, and in ``extra`` for JSON."""
    from loguru._logger import context

    ids = current_ids()
    exception, depth, record, lazy, colors, raw, capture, patchers, extra = options
    taken = {**logger._core.extra, **context.get(), **extra}  # noqa: SLF001  # same
    writing.ids = {name: value for name, value in ids.items() if name not in taken}
    extra = {**extra, **writing.ids}
    options = (exception, depth, record, lazy, colors, raw, capture, patchers, extra)
    if raw or not isinstance(message, str):
        return message, options
    writing.suffix = shown = ids_text(ids)
    if args or kwargs or record:
        shown = shown.replace("{", "{{").replace("}", "}}")
    if colors:
        shown = shown.replace("<", r"\<")
    return message + shown, options


def _event(tee: LogTee, writing: _Writing) -> LogEvent | None:
    record = writing.record
    if record is None:
        return None
    level, name = record["level"].no, record["name"] or NAME
    file, line, function = record["file"].path, record["line"], record["function"]
    site = tee.admit(name, file, line, function, level)
    if site is None:
        return None
    fields = [pair for pair in record["extra"].items() if pair[0] not in writing.ids]
    exc_info = record["exception"]
    details = exception_attributes(exc_info) if exc_info else None
    body = str(record["message"]).removesuffix("\n").removesuffix(writing.suffix)
    written_s, thread = record["time"].timestamp(), record["thread"].name
    return event_of(site, written_s, body, fields, thread, details, error_in(exc_info))
