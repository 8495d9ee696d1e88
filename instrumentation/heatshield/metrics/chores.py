"""What a background thread does again and again, and when each thing is due."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.instrumentation.utils import suppress_instrumentation

from heatshield.clock import Clock
from heatshield.counters import COUNTERS

__all__ = ["Chore", "ChoreThread", "Chores"]


@dataclass(frozen=True, slots=True)
class Chore:
    """One of them.

    Attributes:
        do: what; where it fails, that is counted.
        every_s: seconds from one time to the next.
        first_s: seconds until the first time.
    """

    do: Callable[[], object]
    every_s: float
    first_s: float = 0.0


class Chores:
    """Chores with the time each is due at; decides, and waits for nothing.

    Args:
        chores: at least one, in the order in which they are done when due at once.
        now_s: monotonic seconds.
    """

    def __init__(self, chores: Sequence[Chore], now_s: float) -> None:
        self._due_s = {chore: now_s + chore.first_s for chore in chores}

    def do_due(self, now_s: float, *, early: bool = False) -> None:
        """Do what is due; what was missed meanwhile is not made up for.

        Args:
            now_s: monotonic seconds.
            early: do what is not yet due as well.
        """
        for chore, due_s in self._due_s.items():
            if early or due_s <= now_s:
                attempt(chore.do)
                self._due_s[chore] = max(due_s, now_s) + chore.every_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due."""
        return max(0.0, min(self._due_s.values()) - now_s)


class ChoreThread:
    """Does chores from its making until it is told to end.

    Args:
        chores: what.
        finish: done once more at the end.
        clock: for when.
    """

    def __init__(self, chores: Sequence[Chore], finish: Callable[[], object], clock: Clock) -> None:
        self._chores = Chores(chores, clock.monotonic())
        self._finish = finish
        self._clock = clock
        self._ending = False
        self._hurries: deque[threading.Event] = deque()
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-metrics", daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: when there can be no more threads.
        """
        self._thread.start()

    def hurry(self, most_s: float) -> bool:
        """Do everything now and wait for that; ``False`` if it took longer."""
        done = threading.Event()
        self._hurries.append(done)
        self._woken.set()
        return done.wait(most_s)

    def end(self) -> None:
        """Finish and stop; does not wait for it."""
        self._ending = True
        self._woken.set()

    def wait(self, most_s: float) -> bool:
        """Wait for the end; ``False`` if that took longer."""
        return self._ended.wait(most_s)

    def _run(self) -> None:
        with suppress_instrumentation():
            while not self._ending:
                self._woken.wait(self._chores.wait_s(self._clock.monotonic()))
                self._woken.clear()
                if not self._ending:
                    self._round()
            attempt(self._finish)
        self._ended.set()

    def _round(self) -> None:
        hurries = [self._hurries.popleft() for _ in range(len(self._hurries))]
        self._chores.do_due(self._clock.monotonic(), early=bool(hurries))
        for done in hurries:
            done.set()


def attempt(do: Callable[[], object]) -> None:
    """Do it; where it fails, count that."""
    try:
        do()
    except Exception:  # noqa: BLE001  # the thread must outlive whatever comes
        COUNTERS.error("metrics")
