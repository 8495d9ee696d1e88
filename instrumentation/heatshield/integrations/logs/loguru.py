"""loguru: each record that reaches a sink of the service is also exported, once.

No sink is added: ``logger.remove()`` and ``logger.configure()``, which services call first, would
remove it, and the ids of the service's own sinks would change. So a patch wraps the logger's
``_log``, and another reads the record in its handlers' ``emit``, as patchers and filters left it.
"""

import inspect
import logging.handlers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from heatshield.counters import fail_open
from heatshield.export.logs import LogEvent, error_in, event_of, exception_attributes
from heatshield.integrations.logs.deduplicate import Emission, current
from heatshield.integrations.logs.frame_disguise import Place, Tap
from heatshield.integrations.logs.log_tee import TAKING, LogTee, current_ids, ids_text
from heatshield.integrations.patches import Original
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from loguru import Record

__all__ = ["NAME", "install", "remove"]

NAME: Final = "loguru"

_KNOWN_ARGUMENTS: Final = (
    "self", "level", "from_decorator", "options", "message", "args", "kwargs",
)  # fmt: skip

_DEPTH: Final = 1
"""Where the frames to skip stand among the options of a logger."""

Options = tuple[object, ...]
"""Of a logger: exception, depth, record, lazy, colors, raw, capture, patchers, extra."""


class _Core(Protocol):
    levels_lookup: Mapping[str | int, tuple[object, object, int]]
    min_level: int
    extra: Mapping[str, object]


class _Logger(Protocol):
    """What is used of loguru's logger."""

    _core: _Core


class _Writing(Emission):
    """One record on its way to the sinks."""

    def __init__(self, said: object, level: int) -> None:
        super().__init__(said, level)
        self.record: Record | None = None
        self.ids: dict[str, str] = {}
        self.suffix = ""
        self.writes = 0


_TAP: Final = Tap()


def install(services: Services) -> None:
    """Export every record.

    Raises:
        ImportError: if loguru is not installed.
        RuntimeError: if its version has another inside than the known one.
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
    """Stop exporting records."""
    _TAP.take_out()


def _logging(tap: Tap, original: Original) -> Original:
    def _log(  # loguru's signature
        self: _Logger,
        level: object,
        from_decorator: object,
        options: Options,
        message: object,
        args: object,
        kwargs: object,
    ) -> None:
        # One frame more to skip on the way to the caller.
        depth = cast("int", options[_DEPTH])
        options = (options[0], depth + 1, *options[_DEPTH + 1 :])
        tee = tap.tee
        if tee is None or (current() is None and _is_below(self, level)):
            original(self, level, from_decorator, options, message, args, kwargs)
            return
        if TAKING.get():
            return
        said = message if isinstance(message, str) else ""
        writing = _Writing(said, _number(self, level) if current() is not None else 0)
        if tee.console_ids and writing.outer is None:
            shown = _with_ids(writing, self, options, message, args, kwargs)
            message, options = shown or (message, options)
        try:
            original(self, level, from_decorator, options, message, args, kwargs)
        finally:
            if writing.close():
                tee.send(_event, writing)

    return _log


def _emitting(tap: Tap, original: Original) -> Original:
    del tap

    def emit(self: object, record: "Record", *rest: object, **more: object) -> None:
        writing = current()
        if type(writing) is not _Writing:
            original(self, record, *rest, **more)
            return
        writing.record, writing.said = record, record.get("message", "")
        writing.level = record["level"].no
        before = writing.writes, writing.relays
        try:
            original(self, record, *rest, **more)
        finally:
            if writing.writes > before[0] and writing.relays == before[1]:
                writing.reached = True

    return emit


def _writing(tap: Tap, original: Original) -> Original:
    """Count a write when a handler takes its lock: its level and filter let the record through."""
    del tap

    def _protected_lock(self: object) -> object:
        writing = current()
        if type(writing) is _Writing:
            writing.writes += 1
        return original(self)

    return _protected_lock


def _writing_elsewhere(tap: Tap, original: Original) -> Original:
    """Export nothing from a thread that writes for ``enqueue=True``: the caller has exported it."""

    def write(self: object, message: object) -> None:
        if tap.tee is None or current() is not None:
            original(self, message)
            return
        exported = Emission(getattr(message, "record", {}).get("message", ""))
        try:
            original(self, message)
        finally:
            exported.close()

    return write


def _handling_elsewhere(tap: Tap, original: Original) -> Original:
    """The same for a queue of the standard library, into a handler that leads to loguru."""

    def handle(self: object, record: logging.LogRecord) -> None:
        if tap.tee is None:
            original(self, record)
            return
        exported = Emission(record)
        try:
            original(self, record)
        finally:
            exported.close()

    return handle


def _is_below(logger: _Logger, level: object) -> bool:
    """Whether no sink takes this level."""
    number = _number(logger, level)
    return 0 <= number < logger._core.min_level  # noqa: SLF001  # nothing public says it


def _number(logger: _Logger, level: object) -> int:
    """A level's number; -1 if there is none of its name."""
    lookup = logger._core.levels_lookup  # noqa: SLF001  # same
    known = lookup.get(level) if isinstance(level, str | int) else None
    return -1 if known is None else known[2]


@fail_open("loguru", None)
def _with_ids(
    writing: _Writing,
    logger: _Logger,
    options: Options,
    message: object,
    args: object,
    kwargs: object,
) -> tuple[object, Options]:
    """Message and options with the ids: behind the text, and in ``extra`` for JSON."""
    from loguru._logger import context

    ids = current_ids()
    exception, depth, record, lazy, colors, raw, capture, patchers, extra = options
    own = cast("Mapping[str, object]", extra)
    taken = {**logger._core.extra, **context.get(), **own}  # noqa: SLF001  # same
    writing.ids = {name: value for name, value in ids.items() if name not in taken}
    extra = {**own, **writing.ids}
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
