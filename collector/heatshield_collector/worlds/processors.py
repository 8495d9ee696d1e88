"""Who computes: threads that share processors, or an event loop that runs one thing at a time."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Protocol

from heatshield_collector.worlds.engine import Engine

__all__ = ["EventLoop", "Processors", "SharedProcessors", "Task"]


class Task:
    """Something that computes.

    Attributes:
        seconds: of processor time that it needs.
        done: called when it has had them.
    """

    __slots__ = ("at", "done", "seconds")

    def __init__(self, seconds: float, done: Callable[[], None], at: float) -> None:
        self.seconds = seconds
        self.done = done
        self.at = at


class Processors(Protocol):
    """Runs tasks.

    Attributes:
        speed: 1.0; less while something else takes part of the processors.
        count: processors that can be used at once.
    """

    speed: float
    count: float

    def start(self, seconds: float, done: Callable[[], None]) -> Task:
        """Compute for so long; ``done`` is called at the end."""
        ...

    def used_s(self, task: Task) -> float:
        """Processor time that a task has had."""
        ...

    def busy_s(self) -> float:
        """Processor time of all tasks since the start."""
        ...

    def lag_s(self) -> float:
        """The longest that a task has waited to begin, since this was asked last."""
        ...

    def change_speed(self, speed: float) -> None:
        """From now on this part of the processors is left."""
        ...


class SharedProcessors:
    """Threads on so many processors, all at the same pace (processor sharing).

    Threads that hold a global interpreter lock are threads on one processor.

    The attained service of each running task grows alike, so one number (``_served_s``) tells them
    all, and a heap of the numbers at which tasks end tells which is next.

    Args:
        engine: of the world.
        count: processors.
    """

    def __init__(self, engine: Engine, count: float) -> None:
        self.count = count
        self.speed = 1.0
        self._engine = engine
        self._served_s = 0.0
        self._at_s = 0.0
        self._busy_s = 0.0
        self._tasks: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._version = 0

    def start(self, seconds: float, done: Callable[[], None]) -> Task:
        """Compute for so long; ``done`` is called at the end."""
        self._move()
        task = Task(seconds, done, self._served_s)
        heapq.heappush(self._tasks, (self._served_s + seconds, next(self._numbers), task))
        self._plan()
        return task

    def used_s(self, task: Task) -> float:
        """Processor time that a task has had."""
        self._move()
        return min(task.seconds, max(0.0, self._served_s - task.at))

    def busy_s(self) -> float:
        """Processor time of all tasks since the start."""
        self._move()
        return self._busy_s

    def lag_s(self) -> float:
        """Threads begin at once."""
        return 0.0

    def change_speed(self, speed: float) -> None:
        """From now on this part of the processors is left."""
        self._move()
        self.speed = speed
        self._plan()

    def _rate(self) -> float:
        return self.speed * min(1.0, self.count / len(self._tasks)) if self._tasks else 0.0

    def _move(self) -> None:
        rate, now_s = self._rate(), self._engine.now_s
        self._served_s += (now_s - self._at_s) * rate
        self._busy_s += (now_s - self._at_s) * rate * len(self._tasks)
        self._at_s = now_s

    def _plan(self) -> None:
        self._version += 1
        if self._tasks:
            left_s = max(0.0, self._tasks[0][0] - self._served_s)
            self._engine.after(left_s / self._rate(), self._end, self._version)

    def _end(self, version: int) -> None:
        if version != self._version:
            return
        self._move()
        ended = []
        while self._tasks and self._tasks[0][0] <= self._served_s + 1e-9:
            ended.append(heapq.heappop(self._tasks)[2])
        self._plan()
        for task in ended:
            task.done()


class EventLoop:
    """One thing after the other, first come, first served; nothing interrupts what computes."""

    def __init__(self, engine: Engine) -> None:
        self.count = 1.0
        self.speed = 1.0
        self._engine = engine
        self._waiting: deque[Task] = deque()
        self._running: Task | None = None
        self._begun_s = 0.0
        self._busy_s = 0.0
        self._lag_s = 0.0

    def start(self, seconds: float, done: Callable[[], None]) -> Task:
        """Compute for so long; ``done`` is called at the end."""
        task = Task(seconds, done, self._engine.now_s)
        self._waiting.append(task)
        if self._running is None:
            self._next()
        return task

    def used_s(self, task: Task) -> float:
        """Processor time that a task has had."""
        if task is not self._running:
            return 0.0
        return min(task.seconds, (self._engine.now_s - self._begun_s) * self.speed)

    def busy_s(self) -> float:
        """Processor time of all tasks since the start."""
        return self._busy_s + (self.used_s(self._running) if self._running else 0.0)

    def lag_s(self) -> float:
        """The longest that a task has waited to begin, since this was asked last."""
        waits_s = self._engine.now_s - self._waiting[0].at if self._waiting else 0.0
        lag_s, self._lag_s = max(self._lag_s, waits_s), 0.0
        return lag_s

    def change_speed(self, speed: float) -> None:
        """The next task has this part of the processor."""
        self.speed = speed

    def _next(self) -> None:
        if not self._waiting:
            self._running = None
            return
        task = self._running = self._waiting.popleft()
        self._begun_s = self._engine.now_s
        self._lag_s = max(self._lag_s, self._begun_s - task.at)
        self._engine.after(task.seconds / self.speed, self._end, task)

    def _end(self, task: Task) -> None:
        self._busy_s += task.seconds
        self._next()
        task.done()
