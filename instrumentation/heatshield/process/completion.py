"""A wake-up that a thread of the service waits for."""

import math
import time
from typing import Final

from heatshield import native
from heatshield.process.green_calls import GREEN_CALLS
from heatshield.process.wakeup import Wakeup

__all__ = ["Completion"]

GIVE_WAY_S: Final = 0.005
"""Seconds that other greenlets run between two looks of one that waits for our threads."""


class Completion(Wakeup):
    """Set once, by a thread of ours; where a greenlet waits for it, others run meanwhile."""

    __slots__ = ()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; whether it is."""
        if not native.may_give_way():
            if super().wait(timeout):
                self.set()  # for the next one that waits
            return self._is_set
        ends_at = math.inf if timeout is None else time.monotonic() + timeout
        while not self._is_set and (left_s := ends_at - time.monotonic()) > 0:
            GREEN_CALLS.run_all()  # the thread may wait for one
            native.green_sleep(min(GIVE_WAY_S, left_s))
        GREEN_CALLS.run_all()  # what it has to say is said before a process ends
        return self._is_set
