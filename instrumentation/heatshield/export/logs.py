"""A log record on its way out: taken where it is written, encoded in the export thread."""

import logging
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple

from opentelemetry.trace import SpanContext, get_current_span

from heatshield.current import request_in

__all__ = ["ExcInfo", "LogEvent", "exception_attributes", "severity_of"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_SEVERITIES: Final = (
    (logging.CRITICAL, 21, "FATAL"),
    (logging.ERROR, 17, "ERROR"),
    (logging.WARNING, 13, "WARN"),
    (logging.INFO, 9, "INFO"),
    (logging.DEBUG, 5, "DEBUG"),
)
"""Python's levels and OpenTelemetry's severity numbers and short names (its data model)."""

MAX_BODY_LENGTH: Final = 65_536
"""Characters of a log line that are sent; a longer one is a dump."""

MAX_VALUE_LENGTH: Final = 8_192
"""Characters of an attribute that are sent: a stack trace fits."""


class LogEvent(NamedTuple):
    """One log record.

    Attributes:
        time_ns: since the Unix epoch.
        severity: OpenTelemetry's number, 1 to 24.
        severity_text: its short name.
        body: what was said.
        attributes: strings, numbers and booleans by name.
        span: where it was said; invalid outside of any span.
        user: who acted.
        logger: who said it.
    """

    time_ns: int
    severity: int
    severity_text: str
    body: str
    attributes: Mapping[str, str | bool | int | float]
    span: SpanContext
    user: str | None
    logger: str

    @classmethod
    def here(
        cls,
        time_ns: int,
        level: int,
        body: str,
        attributes: Mapping[str, Any],
        logger: str,
    ) -> "LogEvent":
        """An event of the current span and user. Attribute values become what OTLP can carry."""
        severity, text = severity_of(level)
        request = request_in()
        plain = {
            str(name): _plain(value) for name, value in attributes.items() if value is not None
        }
        if request is not None and request.raw_user:
            body = request.masked(body)
            plain = {k: request.masked(v) if isinstance(v, str) else v for k, v in plain.items()}
        return cls(
            time_ns,
            severity,
            text,
            _encodable(body[:MAX_BODY_LENGTH]),
            plain,
            get_current_span().get_span_context(),
            request.user if request is not None else None,
            logger,
        )


def severity_of(level: int) -> tuple[int, str]:
    """OpenTelemetry's severity number and text of a level of :mod:`logging`."""
    for floor, number, text in _SEVERITIES:
        if level >= floor:
            return number, text
    return 1, "TRACE"


def exception_attributes(exc_info: ExcInfo | None) -> dict[str, str]:
    """OpenTelemetry's ``exception.*`` attributes."""
    if exc_info is None or exc_info[0] is None:
        return {}
    kind, error, trace = exc_info
    return {
        "exception.type": kind.__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(kind, error, trace)),
    }


def _plain(value: object) -> str | bool | int | float:
    if isinstance(value, str):
        return _encodable(value[:MAX_VALUE_LENGTH])
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return _encodable(repr(value)[:MAX_VALUE_LENGTH])


def _encodable(text: str) -> str:
    """File names may hold lone surrogates, which UTF-8 and so OTLP can't carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
