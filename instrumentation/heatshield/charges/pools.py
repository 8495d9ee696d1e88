"""How many requests wait for a thread of a pool, as far as pools tell: executors, and anyio's
limit of threads, by which Starlette runs handlers that are no coroutines.
"""

import sys
from asyncio import AbstractEventLoop, _get_running_loop
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, cast
from weakref import WeakKeyDictionary, WeakSet

from heatshield.counters import fail_open

__all__ = ["POOLS", "Pools"]


class _Statistics(Protocol):
    tasks_waiting: int


class _Limiter(Protocol):
    """What is used of anyio's ``CapacityLimiter``."""

    def statistics(self) -> _Statistics:
        """Who holds and who waits."""
        ...

    def __hash__(self) -> int: ...


class Pools:
    """The pools of a process that work was handed to."""

    def __init__(self) -> None:
        self._executors: WeakSet[ThreadPoolExecutor] = WeakSet()
        self._limiters: WeakSet[_Limiter] = WeakSet()
        self._loops: WeakKeyDictionary[AbstractEventLoop, None] = WeakKeyDictionary()

    @fail_open("pools", None)
    def follow_executor(self, executor: ThreadPoolExecutor) -> None:
        """Count what waits for this one's threads."""
        self._executors.add(executor)

    @fail_open("pools", None)
    def follow_limiter(self, limiter: object | None) -> None:
        """Count what waits for anyio's threads.

        Args:
            limiter: that is asked for a thread; ``None``: the one of the loop that runs here.
        """
        if limiter is not None:
            self._limiters.add(cast("_Limiter", limiter))
            return
        loop = _get_running_loop()
        module = sys.modules.get("anyio.to_thread")  # whoever asks for a thread has imported it
        if loop is not None and loop not in self._loops and module is not None:
            self._loops[loop] = None
            self._limiters.add(cast("_Limiter", module.current_default_thread_limiter()))

    @fail_open("pools", 0)
    def queued(self) -> int:
        """How many wait now; from any thread."""
        executors, limiters = tuple(self._executors), tuple(self._limiters)
        return sum(one._work_queue.qsize() for one in executors) + sum(  # noqa: SLF001
            one.statistics().tasks_waiting for one in limiters
        )


POOLS: Final = Pools()
"""This process's."""
