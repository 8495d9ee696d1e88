"""Says in the service's log that telemetry does not arrive, once an outage, and that it does again.

Whoever starts a service with a wrong endpoint learns it from the service itself. A log record of
heatshield's is never sent, so this can't feed itself.
"""

import logging
from functools import partial
from typing import Final

from heatshield.clock import Clock
from heatshield.process.green_calls import GREEN_CALLS

__all__ = ["Reachability"]

AGAIN_S: Final = 60.0
"""Between two outages that are told of; a collector that comes and goes must not fill the log."""

_LOGGER: Final = logging.getLogger("heatshield")


class Reachability:
    """Told of each failure and each delivery. For one thread.

    Args:
        endpoint: address of the collector, as it was set.
        clock: says how long ago the last outage was told of.
    """

    def __init__(self, endpoint: str, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._told_at = float("-inf")
        self._is_told = False
        self._has_arrived = False

    def lost(self, why: str, *, is_end: bool = False) -> None:
        """Telemetry did not arrive: it waits, or was let go.

        Args:
            why: the reason.
            is_end: the process is about to end. If anything has arrived before, nothing is set
                wrong, and a collector that ends at the same time is no news.
        """
        now = self._clock.monotonic()
        if self._is_told or (is_end and self._has_arrived) or now < self._told_at + AGAIN_S:
            return
        self._is_told, self._told_at = True, now
        self._tell(
            "telemetry does not reach the heatshield collector at %s: %s. The service goes on; "
            "what does not fit into the queue is lost. Correct HEATSHIELD_ENDPOINT, or start a "
            "collector there; `heatshield doctor` checks it.",
            why,
        )

    def arrived(self) -> None:
        """The collector has taken something."""
        self._has_arrived = True
        if self._is_told:
            self._is_told = False
            self._tell("telemetry reaches the heatshield collector at %s again")

    def _tell(self, text: str, *more: str) -> None:
        GREEN_CALLS.post(partial(_LOGGER.warning, text, self._endpoint, *more))
