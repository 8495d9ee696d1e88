"""The thread that keeps the breaker table true, and how it starts, reconnects, forks and ends.

What it does while it is connected stands in :mod:`heatshield.breakers.follow`.
"""

import _socket
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from heatshield import native
from heatshield.breakers.follow import REQUEST_TIMEOUT_S, Follower
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.signature import Checks
from heatshield.clock import Clock
from heatshield.contract import ContractError
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.answer import Unreachable
from heatshield.fork_hooks import expects_fork
from heatshield.fork_locks import lock
from heatshield.native import NativeThread
from heatshield.process.wakeup import Wakeup
from heatshield.tracing.suppression import suppressed

__all__ = ["Watch"]

MIN_RECONNECT_S: Final = 0.1
MAX_RECONNECT_S: Final = 5.0
"""Full jitter between these, the bound doubling with each failure."""

FIRST_STATE_S: Final = 1.0
"""Seconds that the begin of a queue's worker may wait for a collector that does not answer."""

RESTART_S: Final = 10.0
"""Seconds before another try when the thread could not be started: a process that is out of
descriptors or threads stays so for a while, and each request that begins would try again."""


class Watch:
    """Follows the collector's breaker state for one instance.

    Args:
        endpoint: the collector's address.
        table: what is kept true.
        clock: whose monotonic time anchors the leases, and that is waited on.
        service: of this process.
        instance: names this process, asked anew after a fork.
        workers: its capacity.
        token: that the collector requires, if it does.
        checks: what state has to be signed by.
        chance: uniform random numbers, for the jitter.
    """

    def __init__(  # noqa: PLR0913 - each is named
        self,
        endpoint: str,
        table: BreakerTable,
        clock: Clock,
        *,
        service: str,
        instance: Callable[[], str],
        workers: int,
        token: str = "",
        checks: Checks | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._new_follower = partial(
            Follower,
            endpoint,
            table,
            clock,
            service=service,
            instance=instance,
            workers=workers,
            token=token,
            checks=checks,
        )
        self._lock = lock()
        self._reset()

    def _reset(self) -> None:
        self._thread: NativeThread | None = None
        self._waker: _socket.socket | None = None
        self._wake: _socket.socket | None = None
        self._start_at = float("-inf")
        self._stopping = Wakeup()
        self._gone = Wakeup()
        self._follower = self._new_follower()

    @property
    def started(self) -> bool:
        """Whether the thread was started in this process."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread; once is enough, more does nothing.

        Never raises: where the system has no descriptors or threads left, that is counted, and the
        first call after ``RESTART_S`` tries again.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._thread is not None or self._stopping.is_set() or now < self._start_at:
                return
            if expects_fork():
                return
            self._start_at = now + RESTART_S
            self._launch()

    @fail_open("watch start", None)
    def _launch(self) -> None:
        waker, wake = native.socketpair()
        thread = NativeThread(partial(self._run, wake), "heatshield-watch")
        self._waker, self._wake = waker, wake
        try:
            thread.start()
        except BaseException:
            waker.close()
            wake.close()
            raise
        self._thread = thread

    def learn(self) -> None:
        """Start, and wait for the first state: what is tripped then is known when this returns.

        Waits for :data:`FIRST_STATE_S` at most, or until a try to reach the collector fails.
        """
        self.start()
        if self._thread is not None:
            self._clock.wait(self._follower.heard, FIRST_STATE_S)

    @fail_open("watch report", None)
    def report(self, most_s: float) -> None:
        """Report what was refused and not reported yet, as the process may end; never raises.

        Args:
            most_s: seconds that it may take.
        """
        if most_s > 0:
            with suppressed(), contextlib.suppress(Unreachable):
                self._follower.report_rest(most_s)

    def end(self) -> None:
        """Tell the thread to end; what the table holds lapses with its leases."""
        self._stopping.set()
        with self._lock:
            if self._waker is not None:
                self._waker.send(b"!")

    def stop(self, most_s: float = REQUEST_TIMEOUT_S) -> None:
        """End the thread and wait for that, at most so long."""
        self.end()
        thread = self._thread
        if thread is not None and self._clock.wait(self._gone, most_s):
            thread.join()  # it has nothing left to do

    def after_fork(self) -> None:
        """In a child process, which follows nothing until it serves: it may be no worker at all.

        Until then the table holds what the parent knew, for as long as those leases last.
        """
        self._follower.leave_to_parent()
        for end in (self._waker, self._wake):
            if end is not None:
                end.close()
        self._reset()

    def _run(self, wake: _socket.socket) -> None:
        follower, stopping, gone = self._follower, self._stopping, self._gone
        with suppressed():
            while not stopping.is_set():
                _try_to_follow(follower, stopping, wake)
                self._clock.wait(stopping, self._reconnect_s(follower.failures))
        gone.set()

    def _reconnect_s(self, failures: int) -> float:
        bound = min(MAX_RECONNECT_S, 2 * MIN_RECONNECT_S * 2.0 ** min(failures, 16))
        return MIN_RECONNECT_S + self._chance() * (bound - MIN_RECONNECT_S)


def _try_to_follow(follower: Follower, stopping: Wakeup, wake: _socket.socket) -> None:
    """Follow until it fails; the failure is counted where it is a mistake of either side."""
    try:
        follower.follow(stopping, wake)
    except Unreachable:
        follower.failures += 1
    except ContractError:
        follower.failures += 1
        COUNTERS.error("breaker contract")
    except Exception:  # noqa: BLE001  # the thread must outlive any failure
        follower.failures += 1
        COUNTERS.error("watch")
