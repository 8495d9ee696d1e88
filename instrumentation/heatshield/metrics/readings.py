"""What a scrape reads and nobody counts: gauges of the runtime that is in place."""

from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["READINGS", "Readings"]

Reading = Callable[[], Mapping[str, float]]
"""Numbers by the value of a gauge's one label."""


class Readings:
    """Where from.

    Attributes:
        breakers: entries held for this service, by mode.
        queues: records that wait to be sent, by queue.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Have nothing to read."""
        self.breakers: Reading = dict
        self.queues: Reading = dict


READINGS: Final = Readings()
"""This process's."""
