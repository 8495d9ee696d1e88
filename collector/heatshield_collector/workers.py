"""Threads for work that must not hold up an event loop, nor the end of the process.

Python's own pools are joined when a process ends, so work that takes half an hour keeps a process
for half an hour after SIGTERM. These threads are daemons, few, and each pool is of one kind of
work: what waits in one pool holds up nothing in another.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

__all__ = ["Workers"]

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Executor):
    """A few daemon threads, started when there is work for them; for ``loop.run_in_executor``.

    Args:
        threads: most pieces of work that are done at once.
        name: what the threads are called.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._started = 0
        self._unfinished = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have work done; cancelling the future of what has not begun takes it out.

        Raises:
            RuntimeError: there is no thread yet, and the system gives none.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._started <= min(self._unfinished, self._threads - 1):
                self._start()
            self._unfinished += 1
        self._work.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _start(self) -> None:
        """Start one more thread; where the system gives none, those that are there do the work."""
        name = f"{self._name}-{self._started + 1}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:
            if not self._started:
                raise
        else:
            self._started += 1

    def _run(self) -> None:
        while True:
            future, work = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:  # noqa: BLE001 - the one who waits is told
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del future, work  # what they hold is not kept until the next one comes
            with self._lock:
                self._unfinished -= 1
