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
        chores: in the order in which they are done when due at once.
        now_s: monotonic seconds.
    """

    def __init__(self, chores: Sequence[Chore], now_s: float) -> None:
        self._lock = threading.Lock()
        self._due_s = {chore: now_s + chore.first_s for chore in chores}

    def __len__(self) -> int:
        return len(self._due_s)

    def do_due(self, now_s: float, *, early: bool = False) -> None:
        """Do what is due; what was missed meanwhile is not made up for.

        A thread that was to pause may still be at it: one at a time.

        Args:
            now_s: monotonic seconds.
            early: do what is not yet due as well.
        """
        with self._lock:
            for chore, due_s in self._due_s.items():
                if early or due_s <= now_s:
                    attempt(chore.do)
                    self._due_s[chore] = max(due_s, now_s) + chore.every_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due."""
        return max(0.0, min(self._due_s.values()) - now_s)


class ChoreThread:
    """Does chores until it is told to end or to pause.

    Args:
        chores: what; another thread may go on with them where this one paused.
        finish: done once at the end.
        clock: for when.
    """

    def __init__(self, chores: Chores, finish: Callable[[], object], clock: Clock) -> None:
        self._chores = chores
        self._finish = finish
        self._clock = clock
        self._ending = self._pausing = False
        self._hurries: deque[threading.Event] = deque()
        self._woken = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-metrics", daemon=True)

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: when there can be no more threads.
        """
        self._thread.start()

    def hurry(self) -> threading.Event:
        """Have everything done now; what is returned is set once it is."""
        done = threading.Event()
        self._hurries.append(done)
        self._woken.set()
        return done

    def end(self) -> threading.Event:
        """Have it finish; what is returned is set once it has."""
        self._ending = True
        self._woken.set()
        return self._gone

    def pause(self, most_s: float) -> None:
        """End without finishing; if it does something just now, not waiting for it longer."""
        self._pausing = True
        self._woken.set()
        if self._gone.wait(most_s):
            self._thread.join()  # it has nothing left to do

    def _run(self) -> None:
        with suppress_instrumentation():
            while not (self._ending or self._pausing):
                self._woken.wait(self._chores.wait_s(self._clock.monotonic()))
                self._woken.clear()
                if not (self._ending or self._pausing):
                    self._round()
            if self._ending:
                attempt(self._finish)
        for done in self._hurries:
            done.set()
        self._gone.set()

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
