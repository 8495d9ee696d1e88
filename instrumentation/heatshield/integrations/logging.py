"""Standard logging: each record that reaches handlers is also exported, once.

``Logger.callHandlers`` is patched instead of a handler being added: with a handler on the root
logger, Python's output of last resort would vanish, ``basicConfig`` would do nothing, and
``dictConfig`` would throw the handler away. So the console says exactly what it said before.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from heatshield.counters import COUNTERS, fail_open
from heatshield.current import request_in
from heatshield.export.logs import LogEvent, exception_attributes
from heatshield.integrations.equipment import Equipment

__all__ = ["NAME", "current_ids", "install", "remove", "rendering"]

NAME: Final = "logging"

NEVER_EXPORTED: Final = ("heatshield", "opentelemetry", "urllib3")
"""Loggers, with all below them, whose records would feed on their own export."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "trace_id", "span_id", "user",
}  # fmt: skip
"""What every record has; the rest came in ``extra``."""

_reached: ContextVar[list[bool] | None] = ContextVar("heatshield-rendering", default=None)
_original: Final = logging.Logger.callHandlers


def install(equipment: Equipment) -> None:
    """Tee every record into the export; replaces an earlier tee."""
    export, console_ids = equipment.log, equipment.settings.console_ids

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        rendering_of = _reached.get()
        if rendering_of is not None:
            rendering_of.append(True)  # another integration exports the event it was made from
        else:
            _export(record, export)
        if console_ids:
            _append_ids(record)
        _original(logger, record)

    setattr(logging.Logger, "callHandlers", call_handlers)  # noqa: B010  # a patch, said aloud


def remove() -> None:
    """Let records go where they went before."""
    setattr(logging.Logger, "callHandlers", _original)  # noqa: B010  # a patch, said aloud


@contextmanager
def rendering() -> Iterator[list[bool]]:
    """While open, records are not exported; the list grows by one for each that is handled."""
    seen: list[bool] = []
    token = _reached.set(seen)
    try:
        yield seen
    finally:
        _reached.reset(token)


def _export(record: logging.LogRecord, export: Callable[[LogEvent], None]) -> None:
    if record.name.partition(".")[0] in NEVER_EXPORTED:
        return
    try:
        export(_event(record))
    except Exception:  # noqa: BLE001  # a record may hold anything; its handlers come next
        COUNTERS.error("logging")


def _event(record: logging.LogRecord) -> LogEvent:
    attributes: dict[str, Any] = {
        name: value for name, value in vars(record).items() if name not in _STANDARD
    }
    attributes |= {
        "code.file.path": record.pathname,
        "code.line.number": record.lineno,
        "code.function.name": record.funcName,
    }
    attributes |= exception_attributes(record.exc_info)
    body = record.getMessage()
    if isinstance(record.msg, Mapping):  # structlog's ProcessorFormatter hands over a mapping
        attributes |= {k: v for k, v in record.msg.items() if k != "event"}
        body = str(record.msg.get("event", ""))
    time_ns = int(record.created * 1e9)
    return LogEvent.here(time_ns, record.levelno, body, attributes, record.name)


def current_ids() -> dict[str, str]:
    """``trace_id``, ``span_id`` and ``user`` of this moment, as far as there are any."""
    ids = {}
    span = get_current_span().get_span_context()
    if span.is_valid:
        ids = {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
    request = request_in()
    if request is not None and request.user is not None:
        ids["user"] = request.user
    return ids


@fail_open("logging", None)
def _append_ids(record: logging.LogRecord) -> None:
    ids = current_ids()
    for name, value in ids.items():
        if name not in vars(record):
            setattr(record, name, value)
    if ids and isinstance(record.msg, str) and _reached.get() is None:
        suffix = " ".join(f"{name}={value}" for name, value in ids.items())
        record.msg, record.args = f"{record.getMessage()} {suffix}", None
