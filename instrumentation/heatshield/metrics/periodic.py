"""What a background thread does again and again, and when each task is due."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heatshield import native
from heatshield.clock import Clock
from heatshield.counters import COUNTERS
from heatshield.native import NativeThread
from heatshield.process.completion import Completion
from heatshield.process.wakeup import Wakeup
from heatshield.tracing.suppression import suppressed

__all__ = ["PeriodicTask", "PeriodicThread", "Schedule", "attempt"]


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """One thing to do, and how often.

    Attributes:
        do: the task; a failure is counted.
        every_s: seconds from one run to the next.
        first_s: seconds until the first run.
    """

    do: Callable[[], object]
    every_s: float
    first_s: float = 0.0


class Schedule:
    """When each of some tasks is due; decides, and waits for nothing.

    Args:
        tasks: in the order in which they run when due at once.
        now_s: monotonic seconds.
    """

    def __init__(self, tasks: Sequence[PeriodicTask], now_s: float) -> None:
        self._lock = native.lock()
        self._due_s = {task: now_s + task.first_s for task in tasks}

    def __len__(self) -> int:
        return len(self._due_s)

    def run_due(self, now_s: float, *, early: bool = False) -> None:
        """Run what is due; missed runs are not made up for.

        A thread that was told to pause may still be running a task: one thread at a time.

        Args:
            now_s: monotonic seconds.
            early: run what is not yet due, too.
        """
        with self._lock:
            for task, due_s in self._due_s.items():
                if early or due_s <= now_s:
                    attempt(task.do)
                    self._due_s[task] = max(due_s, now_s) + task.every_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until a task is due."""
        return max(0.0, min(self._due_s.values()) - now_s)


class PeriodicThread:
    """Runs a schedule until it is told to end or to pause.

    Args:
        schedule: the tasks; another thread may go on with it where this one paused.
        finish: runs once at the end.
        clock: says when, and is waited on.
    """

    def __init__(self, schedule: Schedule, finish: Callable[[], object], clock: Clock) -> None:
        self._schedule = schedule
        self._finish = finish
        self._clock = clock
        self._ending = self._pausing = False
        self._early_runs: deque[Completion] = deque()
        self._woken = Wakeup()
        self._gone = Completion()
        self._thread = NativeThread(self._run, "heatshield-metrics")

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: when there can be no more threads.
        """
        self._thread.start()

    def run_now(self) -> Completion:
        """Run everything now; the event that is returned is set once that is done."""
        done = Completion()
        self._early_runs.append(done)
        self._woken.set()
        return done

    def end(self) -> Completion:
        """Finish; the event that is returned is set once that is done."""
        self._ending = True
        self._woken.set()
        return self._gone

    def pause(self, most_s: float) -> None:
        """End without finishing; a task that is running is waited for at most ``most_s``."""
        self._pausing = True
        self._woken.set()
        if self._clock.wait(self._gone, most_s):
            self._thread.join()  # it has nothing left to do

    def _run(self) -> None:
        with suppressed():
            while not (self._ending or self._pausing):
                self._clock.wait(self._woken, self._schedule.wait_s(self._clock.monotonic()))
                self._woken.clear()
                if not (self._ending or self._pausing):
                    self._round()
            if self._ending:
                attempt(self._finish)
        for done in self._early_runs:
            done.set()
        self._gone.set()

    def _round(self) -> None:
        early_runs = [self._early_runs.popleft() for _ in range(len(self._early_runs))]
        self._schedule.run_due(self._clock.monotonic(), early=bool(early_runs))
        for done in early_runs:
            done.set()


def attempt(do: Callable[[], object]) -> None:
    """Do it; count a failure."""
    try:
        do()
    except Exception:  # noqa: BLE001  # the thread must outlive any failure
        COUNTERS.error("metrics")
