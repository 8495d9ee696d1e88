"""No fork while one of our threads reads or writes values of ``prometheus_client``.

Each value has a lock, and in multi-process mode all share one. A child process that came into being
while our thread held it would wait for it for ever, at its next count.
"""

from typing import Final

from heatshield.fork_locks import ForkBarrier

__all__ = ["REGISTRY_IN_USE"]

REGISTRY_IN_USE: Final = ForkBarrier(most_s=0.5)
"""Held while a registry is read, which takes milliseconds; but collectors of the service's own may
do anything when they are read."""
