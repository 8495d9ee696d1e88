"""Random trace and span ids, from a generator of our own.

A service that seeds :mod:`random`, as simulations and tests do, must not repeat its trace ids.
"""

import random
from collections.abc import Callable
from typing import Final

from heatshield.fork_hooks import in_child

__all__ = ["new_span_id", "new_trace_id"]

_RANDOM: Final = random.Random()  # noqa: S311  # ids are no secrets
_BITS: Final[Callable[[int], int]] = _RANDOM.getrandbits

in_child(_RANDOM.seed)


def new_trace_id() -> int:
    """128 random bits, not all of them zero."""
    return _BITS(128) or new_trace_id()


def new_span_id() -> int:
    """64 random bits, not all of them zero."""
    return _BITS(64) or new_span_id()
