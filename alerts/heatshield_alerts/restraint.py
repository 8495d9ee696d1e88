"""What the registry remembers beyond its entries, so as to do less: moves, hold-downs, refusals."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from heatshield.call_key import CallKey
from heatshield_alerts.draft import Reason

__all__ = ["HOLD_DOWN_S", "MAX_MOVES", "MOVES_WINDOW_S", "Restraint"]

HOLD_DOWN_S: Final = 600.0
"""Seconds after a manual clear in which rules may not trip the key again: a person who looked at
it knows more than the rule, for about as long as it takes to change the rule."""

MOVES_WINDOW_S: Final = 600.0
MAX_MOVES: Final = 12
"""State changes of one key in that window: four times open, half-open, closed. A key that moves
more often helps no service; its clients see churn and people learn to ignore it."""

ROOM_TO_END: Final = 3
"""Moves that opening takes up at most: itself, half-open, closed. Opening only with room for all
three means that closing never has to be refused."""

REFUSAL_REPEAT_S: Final = 60.0
"""Seconds in which the same refusal is not recorded again: an alert that fires asks four times a
second."""

_MINUTE_S: Final = 60.0


class Restraint:
    """Times by key. Seconds on a clock that never goes back."""

    def __init__(self) -> None:
        self._moves: dict[CallKey, deque[float]] = {}
        self._held_down_until_s: dict[CallKey, float] = {}
        self._refused_s: dict[tuple[CallKey, Reason], float] = {}
        self._opened_s: deque[float] = deque()

    def moved(self, key: CallKey, now: float) -> None:
        """A key's state changed."""
        self._moves.setdefault(key, deque(maxlen=MAX_MOVES)).append(now)

    def opened(self, key: CallKey, now: float) -> None:
        """A new entry was made for a key; that is a move too."""
        self._opened_s.append(now)
        self.moved(key, now)

    def may_open(self, key: CallKey, now: float) -> bool:
        """Whether a key may open, with room left to close again."""
        recent = sum(now - at_s <= MOVES_WINDOW_S for at_s in self._moves.get(key, ()))
        return recent + ROOM_TO_END <= MAX_MOVES

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
            "moves": [
                [key.text, [moment(at) for at in times]] for key, times in self._moves.items()
            ],
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
        for text, moments in kept.get("moves", ()):
            times = deque((time_of(one) for one in moments), maxlen=MAX_MOVES)
            if times:
                found._moves[CallKey.parse(text)] = times
        for text, since in kept.get("held_down", ()):
            found._held_down_until_s[CallKey.parse(text)] = time_of(since) + HOLD_DOWN_S
        found._opened_s.extend(time_of(one) for one in kept.get("opened", ()))
        return found

    def forget(self, now: float) -> None:
        """Let go of what no longer counts, so that memory follows the last ten minutes."""
        for key in [k for k, times in self._moves.items() if now - times[-1] > MOVES_WINDOW_S]:
            del self._moves[key]
        for key in [k for k, until_s in self._held_down_until_s.items() if until_s <= now]:
            del self._held_down_until_s[key]
        for pair in [p for p, at_s in self._refused_s.items() if now - at_s > REFUSAL_REPEAT_S]:
            del self._refused_s[pair]
