"""Calls that our threads hand to a greenlet of the service.

Where gevent or eventlet makes greenlets of threads, the service's locks are right between its
greenlets alone: one of :mod:`logging`, or of a metric, that a thread of the system waits for may
never be had, and one that it holds may stop the service. So our threads do not log, nor read a
registry, but have it done.
"""

import _thread
import sys
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from heatshield import native
from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_hooks import in_child
from heatshield.process.wakeup import Wakeup

__all__ = ["GREEN_CALLS", "GreenCalls"]

POLL_S: Final = 0.25
"""Seconds between two looks of an eventlet process; gevent's is woken."""

MAX_CALLS: Final = 64
"""That wait. Beyond them the oldest is let go: the service does not come round to them."""

T = TypeVar("T")


class GreenCalls:
    """Runs calls in a greenlet of the service; at once where threads are threads."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], object]] = deque(maxlen=MAX_CALLS)
        self._wake: Callable[[], object] | None = None
        in_child(self._calls.clear)  # threads made them that the child does not have

    @fail_open("greenlets", None)
    def start(self) -> None:
        """Run calls from now on; called where the service runs, and more than once."""
        if self._wake is None and native.may_give_way():
            self._wake = _woken_by_gevent(self.run_all) or _polled(self.run_all)

    def post(self, call: Callable[[], object]) -> None:
        """Have it run, some time. What it raises is counted."""
        if not native.is_beside_greenlets():
            _attempt(call)
            return
        self._calls.append(call)
        if self._wake is not None:
            self._wake()

    def run(self, call: Callable[[], T], most_s: float) -> T:
        """Have it run, and wait.

        Args:
            call: whose result is returned, or exception raised.
            most_s: seconds until it has run.

        Raises:
            TimeoutError: when it has not run by then; it may still.
        """
        if not native.is_beside_greenlets():
            return call()
        outcome = _Outcome(call)
        self.post(outcome)
        return outcome.get(most_s)

    def run_all(self) -> None:
        """Run what waits, here; for greenlets of the service."""
        while self._calls:
            _attempt(self._calls.popleft())


class _Outcome(Generic[T]):
    """What a call returned or raised, for the thread that waits for it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._done = Wakeup()

    def __call__(self) -> None:
        try:
            self._results.append(self._call())
        except Exception as error:  # noqa: BLE001  # whichever: it is raised where it is waited for
            self._error = error
        finally:
            self._done.set()

    def get(self, most_s: float) -> T:
        self._done.wait(most_s)
        if self._error is not None:
            raise self._error
        if not self._results:
            raise TimeoutError("the service's greenlets did not come round to it")
        return self._results[0]


def _attempt(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error("greenlets")


def _woken_by_gevent(run_all: Callable[[], object]) -> Callable[[], object] | None:
    """What wakes a hub of gevent, to run all calls in a greenlet; ``None`` if it is not gevent's.

    The watcher counts as nothing that the hub waits for: ``gevent.wait()`` ends as before.
    """
    gevent, monkey = sys.modules.get("gevent"), sys.modules.get("gevent.monkey")
    if gevent is None or monkey is None or not monkey.is_module_patched("_thread"):
        return None
    watcher = gevent.get_hub().loop.async_(ref=False)
    watcher.start(_thread.start_new_thread, run_all, ())
    wake: Callable[[], object] = watcher.send
    return wake


def _polled(run_all: Callable[[], object]) -> Callable[[], object]:
    def poll() -> None:
        while True:
            run_all()
            native.green_sleep(POLL_S)

    _thread.start_new_thread(poll, ())
    return lambda: None


GREEN_CALLS: Final = GreenCalls()
"""This process's."""
