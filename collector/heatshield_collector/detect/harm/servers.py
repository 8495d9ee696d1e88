"""How many operations a backend has been seen to serve at once."""

from typing import Final

import numpy as np

from heatshield_collector.detect.harm.recent import Floats

__all__ = ["ServersShown"]

MARGIN_S: Final = 0.002
"""Clocks of senders are aligned to about so much."""

LEAST: Final = 100
"""Operations without which nothing is known."""

LOOKED_AT: Final = 200
"""Operations that are looked at in a round; more tell no more."""

GENERATION_S: Final = 300.0
"""What a backend showed is remembered for one to two of these."""


class ServersShown:
    """Counts by overtaking: one that came later and was answered earlier was served beside.

    An operation that overtakes three that came before it shows four servers. A backend that lets
    everything run at once, as PostgreSQL does, soon shows many; one that serves four at a time
    never shows five, however many wait.
    """

    def __init__(self) -> None:
        self._young = self._old = 1
        self._seen = 0
        self._born_s: float | None = None
        self._until_s = -np.inf

    def look(self, start_s: Floats, end_s: Floats, running: Floats, now_s: float) -> None:
        """Take in the operations of the last moments.

        Args:
            start_s: when each was sent, monotonic seconds.
            end_s: when each was answered; now, for one that still runs.
            running: 1 for those.
            now_s: monotonic seconds.
        """
        if self._born_s is None:
            self._born_s = now_s
        elif now_s - self._born_s >= GENERATION_S:
            self._old, self._young, self._born_s = self._young, 1, now_s
        long = end_s > start_s
        fresh = np.flatnonzero(long & (running == 0) & (end_s > self._until_s))
        self._seen += len(fresh)
        if not len(fresh):
            return
        self._until_s = float(end_s[fresh].max())
        fresh = fresh[np.argsort(end_s[fresh])][-LOOKED_AT:]
        before = start_s[long][None, :] < start_s[fresh][:, None] - MARGIN_S
        after = end_s[long][None, :] > end_s[fresh][:, None] + MARGIN_S
        self._young = max(self._young, 1 + int((before & after).sum(axis=1).max()))

    @property
    def most(self) -> int | None:
        """How many at once; ``None``: not known."""
        return max(self._young, self._old) if self._seen >= LEAST else None
