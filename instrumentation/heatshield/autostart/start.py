"""Instruments a process whose code does not ask for it; whatever is wrong, the process starts."""

import sys
from contextlib import suppress
from typing import Any

import heatshield

__all__ = ["start"]


def start(**settings: Any) -> None:
    """Instrument this process, or say on stderr why not.

    Args:
        settings: as for :func:`heatshield.instrument`.
    """
    try:
        heatshield.instrument(**settings)
    except Exception as error:  # noqa: BLE001  # the service must start without us, too
        with suppress(Exception):  # there may be no stderr
            sys.stderr.write(f"heatshield: this process is not instrumented: {error}\n")
