"""structlog: each event is exported with its fields, as its processors left them, once.

The event is taken just before the last processor, which renders it: so what a processor dropped or
redacted is dropped or redacted here too. Where structlog renders into standard logging, the event
is exported in place of the rendered record, and only if that record reached its handlers.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, cast

from heatshield.counters import COUNTERS
from heatshield.export.logs import ExcInfo, LogEvent, exception_attributes
from heatshield.integrations.equipment import Equipment
from heatshield.integrations.logging import NEVER_EXPORTED, current_ids, rendering

__all__ = ["NAME", "install", "remove"]

NAME: Final = "structlog"

_PATCHED: Final = "_heatshield_original"

_LEVELS: Final = {
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "err": logging.ERROR,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "debug": logging.DEBUG,
}
"""Levels by the method that was called; every other is INFO."""

_NOT_FIELDS: Final = frozenset(
    {"event", "exc_info", "stack_info", "timestamp", "level", "_record", "_from_structlog"}
)


_taken: ContextVar[list[Mapping[str, Any]] | None] = ContextVar("heatshield-event", default=None)


@dataclass(slots=True)
class _Bound:
    """What ``_process_event`` reads of a bound logger."""

    _logger: Any
    _processors: list[Any]
    _context: Any


def install(equipment: Equipment) -> None:
    """Export every event; replaces an earlier installation.

    Raises:
        ImportError: if structlog is not installed.
    """
    from structlog import BoundLoggerBase

    export, console_ids = equipment.log, equipment.settings.console_ids
    process = _original(BoundLoggerBase, "_process_event")
    proxy = _original(BoundLoggerBase, "_proxy_to_logger")

    def process_event(bound: Any, method: str, event: Any, fields: Any) -> Any:
        tapped = _tapped(bound, console_ids=console_ids)
        return process(bound if tapped is None else tapped, method, event, fields)

    def proxy_to_logger(bound: Any, method: str, event: Any = None, **fields: Any) -> Any:
        events: list[Mapping[str, Any]] = []
        token = _taken.set(events)
        try:
            with rendering() as handled:
                answer = proxy(bound, method, event, **fields)
        finally:
            _taken.reset(token)
        wrapped = bound._logger  # noqa: SLF001  # documented for custom wrappers
        if events and (handled or not isinstance(wrapped, logging.Logger)):
            _export(events[-1], method, wrapped, export)
        return answer

    for name, function in (
        ("_process_event", process_event),
        ("_proxy_to_logger", proxy_to_logger),
    ):
        setattr(function, _PATCHED, _original(BoundLoggerBase, name))
        setattr(BoundLoggerBase, name, function)


def remove() -> None:
    """Let events go where they went before."""
    from structlog import BoundLoggerBase

    for name in ("_process_event", "_proxy_to_logger"):
        setattr(BoundLoggerBase, name, _original(BoundLoggerBase, name))


def _original(cls: Any, name: str) -> Any:
    method = getattr(cls, name)
    return getattr(method, _PATCHED, method)


def _tapped(bound: Any, *, console_ids: bool) -> _Bound | None:
    """The bound logger with a tap before its last processor."""
    events = _taken.get()
    processors = bound._processors  # noqa: SLF001  # documented for custom wrappers
    if events is None or not processors:
        return None

    def last(logger: Any, method: str, event_dict: Any) -> Any:
        if isinstance(event_dict, Mapping):
            events.append(dict(event_dict))
            if console_ids:
                event_dict = {**event_dict, **current_ids()}
        return processors[-1](logger, method, event_dict)

    return _Bound(bound._logger, [*processors[:-1], last], bound._context)  # noqa: SLF001  # same


def _export(
    event: Mapping[str, Any], method: str, logger: Any, export: Callable[[LogEvent], None]
) -> None:
    try:
        name = str(getattr(logger, "name", None) or event.get("logger") or NAME)
        if name.partition(".")[0] in NEVER_EXPORTED:
            return
        attributes = {k: v for k, v in event.items() if k not in _NOT_FIELDS}
        attributes |= exception_attributes(_exc_info(event.get("exc_info")))
        level = _LEVELS.get(method, logging.INFO)
        export(LogEvent.here(time.time_ns(), level, str(event.get("event", "")), attributes, name))
    except Exception:  # noqa: BLE001  # an event may hold anything; it was rendered already
        COUNTERS.error("structlog")


def _exc_info(value: Any) -> ExcInfo | None:
    if isinstance(value, BaseException):
        return (type(value), value, value.__traceback__)
    if isinstance(value, tuple):
        return cast("ExcInfo", value)
    return sys.exc_info() if value else None
