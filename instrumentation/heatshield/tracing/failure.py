"""The one way to fail a span: what an error says of itself, and that a rejection is no error.

A rejection is recognised by the type of the error, or by what the error carries
(:func:`heatshield.rejection.refusal_in`); its text decides nothing.
"""

from opentelemetry.trace import INVALID_SPAN, Span, StatusCode

from heatshield.names import REJECTED
from heatshield.rejection import refusal_in
from heatshield.sanitize.sanitizer import SANITIZER

__all__ = ["described", "fail", "fail_without_stack", "mark_refusal", "mark_rejected", "text_of"]


def fail(span: Span, error: BaseException) -> None:
    """Mark ``span`` as failed by ``error``, or as rejected where ``error`` is a rejection.

    An error sets ``error.type``, the exception event and the status. Callers leave out what ends
    the task or the program (``CancelledError``, ``SystemExit``) where that is no failure.
    """
    if mark_refusal(span, error):
        return
    span.set_attribute("error.type", type(error).__qualname__)
    span.record_exception(error)
    span.set_status(StatusCode.ERROR, described(error))


def fail_without_stack(span: Span, kind: str, message: str) -> None:
    """Mark ``span`` as failed where the stack and the error's own text may hold values.

    Args:
        span: the span.
        kind: the error's class with its module, e.g. ``psycopg.errors.UniqueViolation``.
        message: the error's text without values.
    """
    span.set_attribute("error.type", kind)
    span.add_event("exception", {"exception.type": kind, "exception.message": message})
    span.set_status(StatusCode.ERROR, f"{kind.rpartition('.')[2]}: {message}")


def mark_refusal(span: Span, error: BaseException) -> bool:
    """Mark ``span`` as rejected if ``error`` is a rejection; returns whether it is one."""
    refusal = refusal_in(error)
    if refusal is None:
        return False
    mark_rejected(span, refusal.entry_id)
    return True


def mark_rejected(span: Span, entry_id: str) -> None:
    """Mark ``span`` as refused by the breaker entry ``entry_id``; it is no error then."""
    if span is not INVALID_SPAN and span.is_recording():
        span.set_attribute(REJECTED, entry_id)


def described(error: BaseException) -> str:
    """The status text of an error, as OpenTelemetry writes it: ``ValueError: no stock``."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(error: BaseException) -> str:
    """What an error says, a database's without the values it quotes.

    Where its ``__str__`` raises, its type in angle brackets.
    """
    try:
        return SANITIZER.error_text(error, str(error))
    except Exception:  # noqa: BLE001  # a __str__ of the service's own
        return f"<{type(error).__name__}>"
