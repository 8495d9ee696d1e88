"""A log record on its way out: taken where it is written, encoded in the export thread.

What may change or go away once the log call returns (the service's own objects, the current span,
the user) is made plain or read on the caller's thread. Everything else waits for the export thread.
"""

import logging
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation import _SPAN_KEY

from heatshield.context.finished import context_after
from heatshield.context.request import REQUEST_KEY, Request, latest
from heatshield.context.span_like import ids_of
from heatshield.export.log_limits import Site
from heatshield.names import LOG_SUPPRESSED
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.span import Span
from heatshield.tracing.values import MAX_ATTRIBUTES, MAX_TEXT, plain

__all__ = [
    "LogEvent", "cut_stack", "error_in", "event_of", "exception_attributes", "suppression",
]  # fmt: skip

MAX_BODY_LENGTH: Final = 65_536
"""Characters of a log line that are sent; a longer one is a dump."""

MAX_STACK_LENGTH: Final = 8_192
"""Characters of a stack trace that are sent. Of a longer one the middle is left out: it begins with
the first cause and ends with what was raised."""

_HEAD_LENGTH: Final = 2_048
_LEFT_OUT: Final = "\n  [... left out ...]\n"

MAX_NAME_LENGTH: Final = 256
"""Characters of the name of a logger or an attribute."""

_LAST_NS: Final = 2**63 - 1
"""The year 2262: OTLP has 64 bits for nanoseconds, readers have a sign."""

_UNCHANGING: Final = frozenset({int, float, bool, type(None)})
"""Kinds of values, beside short texts, that can be left for the export thread to look at."""

_TRACEBACK: Final = "Traceback (most recent call last)"


class LogEvent(NamedTuple):
    """One log record, as it was taken; what the export asks for is made of it then.

    Attributes:
        site: where it comes from: logger, level, place in the code.
        written_s: seconds since the Unix epoch.
        said: its text, as it came.
        fields: what the service said beside it: names, and values that can't change any more.
        thread: that wrote it.
        details: attributes of heatshield's own making, whose texts may hold the user's.
        trace_id: of the request; 0 outside of any.
        span_id: of the span it was written in.
        user: the acting one.
        masking: knows the raw user id that must not leave, where there is one.
    """

    site: Site
    written_s: float
    said: str
    fields: Sequence[tuple[object, object]] = ()
    thread: str | None = None
    details: Mapping[str, str] | None = None
    trace_id: int = 0
    span_id: int = 0
    user: str | None = None
    masking: Request | None = None

    @classmethod
    def here(
        cls, time_ns: float, level: int, body: str, fields: Mapping[object, object], logger: str
    ) -> "LogEvent":
        """An event of the current span and user, from nowhere in the code.

        Args:
            time_ns: since the Unix epoch.
            level: a number of :mod:`logging`.
            body: what was said.
            fields: what was said beside it: anything.
            logger: its name.
        """
        return event_of(Site(logger, "", 0, "", level), time_ns / 1e9, body, list(fields.items()))

    @property
    def logger(self) -> str:
        """The name of the logger."""
        return self.site.logger

    @property
    def time_ns(self) -> int:
        """Since the Unix epoch."""
        time_ns = self.written_s * 1e9
        # Else its maker chose its time, and chose badly.
        return int(time_ns) if 0 <= time_ns <= _LAST_NS else time.time_ns()

    @property
    def severity(self) -> int:
        """OpenTelemetry's number, 1 to 24."""
        return self.site.severity

    @property
    def severity_text(self) -> str:
        """Its short name."""
        return self.site.severity_text

    @property
    def body(self) -> str:
        """What was said."""
        return self.said if self.masking is None else self.masking.masked(self.said)

    @property
    def attributes(self) -> dict[str, object]:
        """By name, values that :func:`heatshield.tracing.values.plain` has made plain."""
        found: dict[str, object] = {}
        for name, value in self.fields[:MAX_ATTRIBUTES]:
            if value is not None:
                found[str(plain(name))[:MAX_NAME_LENGTH]] = plain(value)
        if self.details:
            found.update(self.details)
        if self.masking is not None:
            found = self.masking.masked_values(found)
        if self.thread is not None:
            found["thread.name"] = self.thread
        if self.site.line:
            found.update(self.site.origin)
        return found

    @property
    def span(self) -> SpanContext:
        """Where it was said; invalid outside of any span."""
        return SpanContext(self.trace_id, self.span_id, is_remote=False)


_NEW: Final = tuple.__new__


def event_of(
    site: Site,
    written_s: float,
    said: str,
    fields: Sequence[tuple[object, object]],
    thread: str | None = None,
    details: Mapping[str, str] | None = None,
    error: object = None,
) -> LogEvent:
    """An event of the current span and user.

    Args:
        site: where it comes from.
        written_s: seconds since the Unix epoch.
        said: its text; may hold anything a text can.
        fields: what the service said beside it: anything; taken over.
        thread: that wrote it.
        details: attributes of heatshield's own making, plain.
        error: the exception it is about; outside of any request its stack may tell which request
            it left.
    """
    for _, value in fields:
        if (type(value) is not str or len(value) > MAX_TEXT) and type(value) not in _UNCHANGING:
            fields = [(name, plain(value)) for name, value in fields[:MAX_ATTRIBUTES]]
            break
    handled = error or sys.exc_info()[1]
    if isinstance(handled, BaseException):
        said = SANITIZER.quoting(said, handled)
        fields = [(name, _quoting(value, handled)) for name, value in fields]
    if len(said) > MAX_BODY_LENGTH:
        said = said[:MAX_BODY_LENGTH]
    context = get_current()
    if error is not None and _SPAN_KEY not in context:
        context = context_after(error) or context
    span = context.get(_SPAN_KEY)
    trace_id = span_id = 0
    if type(span) is Span:
        trace_id, span_id = span.trace_id, span.span_id
    elif span is not None:
        trace_id, span_id, _ = ids_of(cast("trace.Span", span))
    request = cast("Request | None", context.get(REQUEST_KEY))
    user = masking = None
    if request is not None:
        user = request.user
    if SANITIZER.masking:
        masking = request or latest()  # the one that has just ended: an access log may be about it
    # Without the constructor of a named tuple, which costs as much as the rest of this.
    return _NEW(
        LogEvent,
        (site, written_s, said, fields, thread, details, trace_id, span_id, user, masking),
    )


def _quoting(value: object, error: BaseException) -> object:
    return SANITIZER.quoting(value, error) if type(value) is str else value


def suppression(site: Site | None, records: int) -> LogEvent:
    """The event that stands for records of a call site that were not sent; of many, if ``None``."""
    place = "other places" if site is None else f"{site.file}:{site.line}"
    what = "record" if records == 1 else "records"
    return LogEvent(
        site or Site("heatshield", "", 0, "", logging.WARNING),
        time.time(),
        f"suppressed {records} {what} of {place}",
        [(LOG_SUPPRESSED, records)],
    )


def exception_attributes(exc_info: object, rendered: str | None = None) -> dict[str, str]:
    """OpenTelemetry's ``exception.*`` attributes, with causes, groups and notes in the stack.

    Args:
        exc_info: what :func:`sys.exc_info` returns; anything else gives none.
        rendered: the stack if it is written already, which is the costly part.
    """
    error = error_in(exc_info)
    if error is None or not isinstance(exc_info, tuple):
        return {}
    kind = type(error)
    if not rendered or _TRACEBACK not in rendered:
        rendered = "".join(traceback.format_exception(kind, error, exc_info[2]))
    rendered = SANITIZER.quoting(rendered, error)  # before it is cut, maybe within a value
    return {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "exception.message": _message_of(error),
        "exception.stacktrace": cut_stack(rendered),
    }


def error_in(exc_info: object) -> BaseException | None:
    """The exception in what :func:`sys.exc_info` returns."""
    if isinstance(exc_info, tuple) and len(exc_info) == 3:  # noqa: PLR2004  # type, value, traceback
        error = exc_info[1]
        return error if isinstance(error, BaseException) else None
    return None


def cut_stack(text: str) -> str:
    """A stack trace without its middle, if it is long."""
    if len(text) <= MAX_STACK_LENGTH:
        return text
    tail = MAX_STACK_LENGTH - _HEAD_LENGTH - len(_LEFT_OUT)
    return text[:_HEAD_LENGTH] + _LEFT_OUT + text[-tail:]


def _message_of(error: BaseException) -> str:
    try:
        return str(plain(SANITIZER.error_text(error, str(error))))
    except Exception:  # noqa: BLE001  # its __str__ is the service's
        return f"<{type(error).__name__}>"
