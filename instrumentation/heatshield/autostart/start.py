"""Instruments a process whose code does not call heatshield; an error never stops the process."""

import sys
from contextlib import suppress

import heatshield

__all__ = ["start"]


def start(service: str | None = None, **settings: object) -> None:
    """Instrument this process, or print on stderr why not; never raises.

    Args:
        service: name of the service, as for :func:`heatshield.instrument`.
        settings: other arguments of :func:`heatshield.instrument`.
    """
    try:
        heatshield.instrument(service, **settings)
    except Exception as error:  # noqa: BLE001  # the service must start without heatshield, too
        with suppress(Exception):  # there may be no stderr
            sys.stderr.write(f"heatshield: this process is not instrumented: {error}\n")
