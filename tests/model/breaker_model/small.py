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

FREE_OPENINGS: Final = 1
"""The second opening of a key is held for twice as long."""

ALPHABET: Final = Alphabet(low_caps=Caps(entries=1))
"""What may happen in the breadth-first search."""

WALKING: Final = Alphabet(
    crashes=4, stalls=3, people=(0, 1), flags=True, modes=True, low_caps=Caps(entries=1)
)
"""What may happen on random walks, which are long enough for more."""


@contextmanager
def small_constants() -> Iterator[None]:
    """Keys may move a few times only, and are soon held longer."""
    usual = restraint.MAX_MOVES, restraint.FREE_OPENINGS
    restraint.MAX_MOVES, restraint.FREE_OPENINGS = MOVES, FREE_OPENINGS
    try:
        yield
    finally:
        restraint.MAX_MOVES, restraint.FREE_OPENINGS = usual
