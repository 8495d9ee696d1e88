"""No fork while one of our threads reads or writes values of ``prometheus_client``.

Each value has a lock, and in multi-process mode all share one. A child process that came into being
while our thread held it would wait for it for ever, at its next count. So a fork waits until our
thread is done: reading takes milliseconds, and a fork waits no longer than a moment for a registry
that is slow. It waits by the system's time, for it is the operating system that forks.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["unforked"]

FORK_WAITS_S: Final = 0.5
"""Most that a fork is held up; collectors of the service's own may do anything when they are
read."""


class _ForkGuard:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._forking = threading.local()
        os.register_at_fork(
            before=self._before, after_in_parent=self._after, after_in_child=self._after_in_child
        )

    def _before(self) -> None:
        self._forking.waited = self.lock.acquire(timeout=FORK_WAITS_S)

    def _after(self) -> None:
        if self._forking.waited:
            self.lock.release()

    def _after_in_child(self) -> None:
        self.lock = threading.Lock()


_GUARD: Final = _ForkGuard()


@contextmanager
def unforked() -> Iterator[None]:
    """While this lasts no fork begins; one thread at a time."""
    with _GUARD.lock:
        yield
