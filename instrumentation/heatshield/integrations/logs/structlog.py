"""structlog: each event is exported with its fields, as its processors left them, once.

The event is taken just before the last processor, which renders it, so what a processor dropped or
redacted is dropped or redacted here too. Where structlog renders into another library, the event is
exported in place of the rendered record, and only if that record reached a handler or sink.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

from heatshield.counters import COUNTERS
from heatshield.export.logs import (
    LogEvent,
    cut_stack,
    error_in,
    event_of,
    exception_attributes,
)
from heatshield.integrations.logs.deduplicate import Emission, Follows, current
from heatshield.integrations.logs.frame_disguise import Place, Tap
from heatshield.integrations.logs.log_tee import TAKING, LogTee, current_ids
from heatshield.integrations.patches import Original
from heatshield.integrations.services import Services
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.values import plain

if TYPE_CHECKING:
    from contextvars import ContextVar

    from structlog.typing import Processor

__all__ = ["NAME", "install", "remove"]

NAME: Final = "structlog"

_LEVELS: Final = {
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "err": logging.ERROR,
    "failure": logging.ERROR,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "debug": logging.DEBUG,
}
"""Levels by the method that was called; every other is INFO."""

_NOT_FIELDS: Final = frozenset(
    {"event", "exc_info", "exception", "level", "logger", "positional_args", "stack", "stack_info",
     "timestamp", "_record", "_from_structlog"}
)  # fmt: skip
"""Keys of an event that are exported otherwise than as fields."""

_BETWEEN: Final = ("structlog.", "heatshield.integrations.")
"""Modules between a log method's caller and here."""


Event = Mapping[object, object]


class _BoundLogger(Protocol):
    """What is used of a bound logger."""

    _processors: Sequence[Processor]


class _Writing(Emission):
    """One event on its way through its processors and into the logger that writes it."""

    def __init__(self, said: object, level: int, exc_info: object, *, console_ids: bool) -> None:
        super().__init__(said if isinstance(said, str) else "", level)
        self.follows = Follows.NONE
        self.console_ids = console_ids and self.outer is None
        self.event: Event | None = None
        self.exc_info = _exc_info(exc_info)
        self.processed = False

    def take(self, _logger: object, _method: str, event: object) -> object:
        """A processor that stands before the last."""
        if isinstance(event, Mapping):
            self.event = dict(event)
            if self.console_ids:
                return _with_ids(event)
        return event


class _StructlogTap(Tap):
    """Also knows where structlog keeps the caller of a log method that is awaited."""

    async_caller: ContextVar[FrameType] | None = None


_TAP: Final = _StructlogTap()


def install(services: Services) -> None:
    """Export every event.

    Raises:
        ImportError: if structlog is not installed.
    """
    from structlog import contextvars
    from structlog._base import BoundLoggerBase

    _TAP.async_caller = getattr(contextvars, "_ASYNC_CALLING_STACK", None)
    places = [
        Place(BoundLoggerBase, "_process_event", _processing),
        Place(BoundLoggerBase, "_proxy_to_logger", _proxying),
    ]
    _TAP.put_in(LogTee(services, NAME), places)


def remove() -> None:
    """Stop exporting events."""
    _TAP.take_out()


def _proxying(tap: Tap, original: Original) -> Original:
    def _proxy_to_logger(
        self: object, method_name: str, event: str | None = None, **event_kw: object
    ) -> object:
        # The parameters' names are structlog's: any other is a field that a service may use.
        tee = tap.tee
        if tee is None:
            return original(self, method_name, event, **event_kw)
        if TAKING.get():
            return None
        level = _LEVELS.get(method_name, logging.INFO)
        writing = _Writing(event, level, event_kw.get("exc_info"), console_ids=tee.console_ids)
        try:
            return original(self, method_name, event, **event_kw)
        finally:
            _close(tee, writing, self, method_name)

    return _proxy_to_logger


def _processing(tap: Tap, original: Original) -> Original:
    def _process_event(
        self: _BoundLogger, method_name: str, event: str | None, event_kw: object
    ) -> object:
        writing = current()
        if type(writing) is not _Writing or tap.tee is None or not self._processors:
            return original(self, method_name, event, event_kw)
        answer = original(_Tapped(self, writing), method_name, event, event_kw)
        writing.processed, writing.follows = True, Follows.THE_NEXT
        return answer

    return _process_event


class _Tapped:
    """A bound logger with one processor more."""

    __slots__ = ("_bound", "_processors")

    def __init__(self, bound: _BoundLogger, writing: _Writing) -> None:
        self._bound = bound
        *others, last = bound._processors  # noqa: SLF001  # documented for custom wrappers
        self._processors = [*others, writing.take, last]

    def __getattr__(self, name: str) -> object:
        found: object = getattr(self._bound, name)
        return found


def _close(tee: LogTee, writing: _Writing, bound: object, method: str) -> None:
    wrapped: object = getattr(bound, "_logger", None)
    if not writing.relays and not isinstance(wrapped, logging.Logger):
        writing.reached = writing.processed  # it writes without another library
    if writing.close():
        tee.send(_event, writing, method, wrapped)


def _event(tee: LogTee, writing: _Writing, method: str, wrapped: object) -> LogEvent | None:
    event = writing.event
    if event is None:
        return None
    level = _LEVELS.get(method, logging.INFO)
    frame = _caller()
    module, code = str(frame.f_globals.get("__name__", "")), frame.f_code
    name = getattr(wrapped, "name", None) or event.get("logger") or module or NAME
    name = name if isinstance(name, str) else str(plain(name))
    site = tee.admit(name, code.co_filename, frame.f_lineno, code.co_name, level)
    if site is None:
        return None
    fields = [
        (name, value)
        for name, value in event.items()
        if name not in _NOT_FIELDS or (name == "level" and not isinstance(value, str))
    ]
    details = _failure(event, writing.exc_info)
    if isinstance(stack := event.get("stack"), str):
        details["code.stacktrace"] = cut_stack(stack)
    thread, error = threading.current_thread().name, error_in(writing.exc_info)
    return event_of(site, time.time(), _said(event), fields, thread, details, error)


def _said(event: Event) -> str:
    text, arguments = event.get("event", ""), event.get("positional_args")
    said = text if type(text) is str else str(plain(text))
    if not arguments:
        return said
    try:  # a logger of the standard library does this behind structlog
        return str(said % arguments)
    except (TypeError, ValueError, KeyError):
        return said


def _caller() -> FrameType:
    """The frame in which the log method was called."""
    asynchronous = _TAP.async_caller  # what was awaited runs in a thread of a pool
    known = None if asynchronous is None else asynchronous.get(None)
    frame = known or sys._getframe(1)  # noqa: SLF001  # CPython's own name for it
    while frame.f_back and str(frame.f_globals.get("__name__", "")).startswith(_BETWEEN):
        frame = frame.f_back
    return frame


def _failure(event: Event, exc_info: object) -> dict[str, str]:
    """The exception, as far as the processors have left it, whether it is rendered yet or not."""
    if left := event.get("exc_info"):
        return exception_attributes(_exc_info(left) or exc_info)
    rendered = event.get("exception")
    if not rendered:
        return {}
    if not isinstance(rendered, str):  # a structure, made for JSON
        return exception_attributes(exc_info) or {"exception.message": str(plain(rendered))}
    if (error := error_in(exc_info)) is not None:
        rendered = SANITIZER.quoting(rendered, error)  # before it is cut, maybe within a value
    found = {"exception.stacktrace": cut_stack(rendered)}
    kind, _, message = _last_error(rendered).partition(": ")
    if all(part.isidentifier() for part in kind.split(".")):
        found |= {"exception.type": kind, "exception.message": message}
    return found


def _last_error(rendered: str) -> str:
    """The error that a stack ends with, with all the lines of its message."""
    lines = rendered.rstrip().split("\n")
    frames = [at for at, line in enumerate(lines) if line.startswith('  File "')]
    if not frames:
        return lines[-1]
    begin = frames[-1] + 1
    while begin < len(lines) and lines[begin].startswith("    "):
        begin += 1
    return "\n".join(lines[begin:])


def _exc_info(value: object) -> object:
    if isinstance(value, BaseException):
        return (type(value), value, value.__traceback__)
    return value if isinstance(value, tuple) else sys.exc_info() if value else None


def _with_ids(event: Event) -> Event:
    try:
        ids = current_ids()
    except Exception:  # noqa: BLE001  # it is rendered without them
        COUNTERS.error(NAME)
        return event
    return {**event, **{name: value for name, value in ids.items() if name not in event}}
