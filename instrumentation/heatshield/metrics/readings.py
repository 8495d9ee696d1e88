"""Gauges that a scrape reads from the runtime."""

from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["READINGS", "Readings"]

Reading = Callable[[], Mapping[str, float]]
"""Numbers by the value of a gauge's one label."""


class Readings:
    """Where the gauges come from.

    Attributes:
        breakers: entries held for this service, by mode.
        kill_switch: 1 for each cause that has thrown it.
        queues: records that wait to be sent, by queue.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Read nothing any more."""
        self.breakers: Reading = dict
        self.kill_switch: Reading = dict
        self.queues: Reading = dict


READINGS: Final = Readings()
"""This process's."""
