"""Levels of Python's logging libraries, and OpenTelemetry's severities."""

import logging
from typing import Final

__all__ = ["LEVELS", "severity_of"]

LEVELS: Final = {
    "trace": 0,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
"""Names of levels in settings, and the least number of :mod:`logging` that belongs to each."""

_SEVERITIES: Final = (
    (logging.CRITICAL, 21, "FATAL"),
    (logging.ERROR, 17, "ERROR"),
    (logging.WARNING, 13, "WARN"),
    (logging.INFO, 9, "INFO"),
    (logging.DEBUG, 5, "DEBUG"),
)
"""Python's levels and OpenTelemetry's severity numbers and short names (its data model)."""


def severity_of(level: int) -> tuple[int, str]:
    """OpenTelemetry's severity number and text of a level of :mod:`logging`."""
    for floor, number, text in _SEVERITIES:
        if level >= floor:
            return number, text
    return 1, "TRACE"
