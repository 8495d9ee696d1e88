"""Instruments a process whose code does not call heatshield; an error never stops the process."""

import sys
from contextlib import suppress
from typing import Any

import heatshield

__all__ = ["start"]


def start(**settings: Any) -> None:
    """Instrument this process, or print on stderr why not; never raises.

    Args:
        settings: arguments of :func:`heatshield.instrument`.
    """
    try:
        heatshield.instrument(**settings)
    except Exception as error:  # noqa: BLE001  # the service must start without heatshield, too
        with suppress(Exception):  # there may be no stderr
            sys.stderr.write(f"heatshield: this process is not instrumented: {error}\n")
