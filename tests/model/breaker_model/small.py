"""Small numbers, so that short histories reach what they bound."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from breaker_model.actions import Alphabet
from heatshield_alerts import restraint
from heatshield_alerts.caps import Caps

__all__ = ["ALPHABET", "WALKING", "small_constants"]

MOVES: Final = 6
"""State changes of a key in ten minutes: twice open, half-open, closed."""

ALPHABET: Final = Alphabet(low_caps=Caps(entries=1))
"""What may happen in the breadth-first search."""

WALKING: Final = Alphabet(
    crashes=4, stalls=3, people=(0, 1), flags=True, modes=True, low_caps=Caps(entries=1)
)
"""What may happen on random walks, which are long enough for more."""


@contextmanager
def small_constants() -> Iterator[None]:
    """Keys may move a few times only."""
    moves, restraint.MAX_MOVES = restraint.MAX_MOVES, MOVES
    try:
        yield
    finally:
        restraint.MAX_MOVES = moves
