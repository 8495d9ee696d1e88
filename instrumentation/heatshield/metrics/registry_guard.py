"""How our threads touch values of ``prometheus_client``: while no fork begins, and not beside
greenlets.

Each value has a lock, and in multi-process mode all share one. A child process that came into being
while our thread held it would wait for it for ever, at its next count; so would a greenlet.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from heatshield.fork_locks import ForkBarrier
from heatshield.process.green_calls import GREEN_CALLS

__all__ = ["REGISTRY_IN_USE", "with_registry"]

REGISTRY_IN_USE: Final = ForkBarrier(most_s=0.5)
"""Held while a registry is read, which takes milliseconds; but collectors of the service's own may
do anything when they are read."""

GREENLET_S: Final = 0.5
"""Seconds that a service of greenlets has to come round to it."""

T = TypeVar("T")


def with_registry(call: Callable[[], T]) -> T:
    """Have it called while no fork begins, in a greenlet of the service if it has those.

    Raises:
        TimeoutError: when no greenlet comes round to it.
    """
    return GREEN_CALLS.run(partial(_guarded, call), GREENLET_S)


def _guarded(call: Callable[[], T]) -> T:
    with REGISTRY_IN_USE:
        return call()
