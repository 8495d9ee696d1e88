"""What the registry remembers beyond its entries, so as to do less: moves, hold-downs, refusals.

A key that flaps is held longer, never left open: the more often it opened lately, the longer its
demand has to stay low, and it leaves ``OPEN`` only while there is room to open once more. Flap
damping of routes (RFC 2439) is the precedent: what comes and goes waits longer each time, until it
was quiet for a while.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from heatshield.call_key import CallKey
from heatshield_alerts.draft import Reason

__all__ = [
    "FREE_OPENINGS",
    "HOLD_DOWN_S",
    "MAX_MOVES",
    "MOVES_WINDOW_S",
    "Damping",
    "Restraint",
]

HOLD_DOWN_S: Final = 600.0
"""Seconds after a manual clear in which rules may not trip the key again: a person who looked at
it knows more than the rule, for about as long as it takes to change the rule."""

MOVES_WINDOW_S: Final = 600.0
MAX_MOVES: Final = 12
"""State changes of one key in that window: four times open, half-open, closed. A key that moves
more often helps no service; its clients see churn and people learn to ignore it."""

FREE_OPENINGS: Final = 3
"""Openings of a key in that window after which it cools as usual. A user who burns now and then is
let go soon; each further opening doubles the time for which demand must stay low."""

_ROOM_TO_OPEN: Final = 2
"""Moves that opening takes up at most: itself, and what ends it at any time, such as a person. With
room for both, closing never has to be refused."""

_ROOM_TO_LEAVE: Final = 2 + _ROOM_TO_OPEN
"""Moves that leaving ``OPEN`` takes up at most: half-open, closed, and what another opening takes.
With room for all, a user who comes back never has to be let be."""

REFUSAL_REPEAT_S: Final = 60.0
"""Seconds in which the same refusal is not recorded again: an alert that fires asks four times a
second."""

_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Damping:
    """How much longer a key that opens now is held.

    Attributes:
        times: as long as usual its demand must stay low.
        openings: of the key in the window, this one among them.
        moves: of the key in the window.
        at_least_s: seconds until there is room to leave ``OPEN``.
    """

    times: int
    openings: int
    moves: int
    at_least_s: float


class Restraint:
    """Times by key. Seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self._moves: dict[CallKey, deque[float]] = {}
        self._openings: dict[CallKey, deque[float]] = {}
        self._held_down_until_s: dict[CallKey, float] = {}
        self._refused_s: dict[tuple[CallKey, Reason], float] = {}
        self._opened_s: deque[float] = deque()

    def moved(self, key: CallKey, now: float) -> None:
        """A key's state changed."""
        self._moves.setdefault(key, deque(maxlen=MAX_MOVES)).append(now)

    def opened(self, key: CallKey, now: float) -> None:
        """A new entry was made for a key; that is a move too."""
        self._opened_s.append(now)
        self.reopened(key, now)

    def reopened(self, key: CallKey, now: float) -> None:
        """A key came back to ``OPEN``, with the entry that it had or a new one."""
        self._openings.setdefault(key, deque(maxlen=MAX_MOVES)).append(now)
        self.moved(key, now)

    def may_open(self, key: CallKey, now: float) -> bool:
        """Whether a key may open, with room left to close again."""
        return len(_recent(self._moves, key, now)) + _ROOM_TO_OPEN <= MAX_MOVES

    def may_leave(self, key: CallKey, now: float) -> bool:
        """Whether a key may leave ``OPEN``, with room left to open again."""
        return len(_recent(self._moves, key, now)) + _ROOM_TO_LEAVE <= MAX_MOVES

    def damping(self, key: CallKey, now: float) -> Damping:
        """How much longer a key is held that has just opened."""
        moves = _recent(self._moves, key, now)
        openings = len(_recent(self._openings, key, now))
        too_many = len(moves) + _ROOM_TO_LEAVE - MAX_MOVES
        return Damping(
            times=2 ** max(0, openings - FREE_OPENINGS),
            openings=openings,
            moves=len(moves),
            at_least_s=moves[too_many - 1] + MOVES_WINDOW_S - now if too_many > 0 else 0.0,
        )

    def opened_last_minute(self, now: float) -> int:
        """New entries in the last 60 s."""
        while self._opened_s and now - self._opened_s[0] > _MINUTE_S:
            self._opened_s.popleft()
        return len(self._opened_s)

    def hold_down(self, key: CallKey, now: float) -> None:
        """Rules may not trip this key for :data:`HOLD_DOWN_S`."""
        self._held_down_until_s[key] = now + HOLD_DOWN_S

    def is_held_down(self, key: CallKey, now: float) -> bool:
        """Whether a person cleared this key a short while ago."""
        return now < self._held_down_until_s.get(key, now)

    def is_news(self, key: CallKey, reason: Reason, now: float) -> bool:
        """Whether this refusal was not recorded lately; it counts as recorded now."""
        last_s = self._refused_s.get((key, reason))
        if last_s is not None and now - last_s < REFUSAL_REPEAT_S:
            return False
        self._refused_s[(key, reason)] = now
        return True

    def to_json(self, moment: Callable[[float], int]) -> dict[str, Any]:
        """The moves and hold-downs as JSON.

        Args:
            moment: a time as it is kept.
        """
        return {
            "moves": _json(self._moves, moment),
            "openings": _json(self._openings, moment),
            "held_down": [
                [key.text, moment(until_s - HOLD_DOWN_S)]
                for key, until_s in self._held_down_until_s.items()
            ],
            "opened": [moment(at_s) for at_s in self._opened_s],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], time_of: Callable[[int], float]) -> Self:
        """Read :meth:`to_json` back.

        Args:
            kept: the JSON.
            time_of: a kept moment as a time.
        """
        found = cls()
        for name, by_key in (("moves", found._moves), ("openings", found._openings)):
            for text, moments in kept.get(name, ()):
                times = deque((time_of(one) for one in moments), maxlen=MAX_MOVES)
                if times:
                    by_key[CallKey.parse(text)] = times
        for text, since in kept.get("held_down", ()):
            found._held_down_until_s[CallKey.parse(text)] = time_of(since) + HOLD_DOWN_S
        found._opened_s.extend(time_of(one) for one in kept.get("opened", ()))
        return found

    def forget(self, now: float) -> None:
        """Let go of what no longer counts, so that memory follows the last ten minutes."""
        for by_key in (self._moves, self._openings):
            for key in [k for k, times in by_key.items() if now - times[-1] > MOVES_WINDOW_S]:
                del by_key[key]
        for key in [k for k, until_s in self._held_down_until_s.items() if until_s <= now]:
            del self._held_down_until_s[key]
        for pair in [p for p, at_s in self._refused_s.items() if now - at_s > REFUSAL_REPEAT_S]:
            del self._refused_s[pair]


def _recent(by_key: Mapping[CallKey, deque[float]], key: CallKey, now: float) -> list[float]:
    """The times of a key that lie within the window, the oldest first."""
    return [at_s for at_s in by_key.get(key, ()) if now - at_s <= MOVES_WINDOW_S]


def _json(
    by_key: Mapping[CallKey, deque[float]], moment: Callable[[float], int]
) -> list[tuple[str, list[int]]]:
    return [(key.text, [moment(at_s) for at_s in times]) for key, times in by_key.items()]
