"""Prints to the terminal: tables, JSON, and text that can't carry control sequences.

Names of users, calls and spans and the bodies of logs come from callers of the platform, so none
of them may reach the terminal as a control sequence or as markup.
"""

import json
import math
import sys
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.text import Text

__all__ = [
    "PIPE_WIDTH",
    "clock_time",
    "console",
    "number",
    "print_json",
    "safe",
    "seconds",
    "text",
]

MILLISECOND_S: Final = 1e-3

HUNDRED: Final = 100
"""From here on decimals say nothing more."""


PIPE_WIDTH: Final = 10_000
"""Columns of what is no terminal: programs read it, so nothing is cut or wrapped."""


def console() -> Console:
    """Return a console on this process's stdout."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=PIPE_WIDTH)


def number(value: float, least: float = 0.01) -> str:
    """Format a number for people: ``1,234``, ``12.35``, ``0.084``; below ``least``: ``<0.01``."""
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if value == int(value) or size >= HUNDRED:
        return f"{value:,.0f}"
    if size < least:
        return f"<{least:g}" if value > 0 else f">-{least:g}"
    if size >= 1:
        return f"{value:,.2f}"
    return f"{value:.{1 - math.floor(math.log10(size))}f}"


def print_json(value: object) -> None:
    """Print one JSON document on stdout, in ASCII, which any pipe and terminal accepts."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def safe(value: object) -> str:
    r"""Escape control, format and surrogate characters, as in ``\x1b``."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in str(value)
    )


def text(value: object, style: str = "") -> Text:
    """Return a value as safe text without markup; ``None`` becomes empty text."""
    return Text("" if value is None else safe(value), style=style, overflow="ellipsis")


def seconds(value_s: float) -> str:
    """Format a duration in a unit that suits its size: ``1.24 s``, ``38.0 ms``, ``85 µs``."""
    if value_s >= 1:
        return f"{value_s:,.2f} s"
    if value_s >= MILLISECOND_S:
        return f"{value_s * 1e3:.1f} ms"
    return f"{value_s * 1e6:.0f} µs"


def clock_time(time_ns: int, pattern: str = "%H:%M:%S.%f") -> str:
    """Format a time in UTC; a pattern that ends with microseconds is cut to milliseconds."""
    shown = datetime.fromtimestamp(time_ns / 1e9, UTC).strftime(pattern)
    return shown[:-3] if pattern.endswith("%f") else shown
