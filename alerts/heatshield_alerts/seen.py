"""What a round of evaluation saw, as far as breakers that are held depend on it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from heatshield.call_key import CallKey

__all__ = ["Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round saw.

    Attributes:
        loads: the admitted load of each key, in the unit of the draft's threshold; a key that is
            not in it has none.
        hot: the keys of the users that detection finds hot.
        rules: the rules that were evaluated without failure, the last time they were due; ``None``:
            all of them.
    """

    loads: Mapping[CallKey, float] = field(default_factory=dict)
    hot: Collection[CallKey] = ()
    rules: Collection[str] | None = None
