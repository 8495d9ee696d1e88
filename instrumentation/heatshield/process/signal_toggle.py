"""A signal that a person sends to toggle something, beside whatever the service does at it.

A handler in Python, set in the main thread, where alone one can be set. A handler that the service
has is called afterwards. Servers set their own while they start, gunicorn's workers even the
default, which kills; so :meth:`SignalToggle.arm` is called again when a process begins to serve.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from heatshield.counters import fail_open

__all__ = ["SignalToggle"]


class SignalToggle:
    """What happens at one signal.

    Args:
        name: of the signal, e.g. ``SIGUSR2``; empty for none.
        toggle: called in the signal handler, so it must neither block nor take a lock.
    """

    def __init__(self, name: str, toggle: Callable[[], object]) -> None:
        self.name = name
        self._number = _number_of(name)
        self._toggle = toggle
        self._before: Any = signal.SIG_DFL
        self._is_wanted = self._is_handling = False

    @property
    def armed(self) -> bool:
        """Whether the signal comes here; ``False`` once the service has set another handler."""
        number = self._number
        return number is not None and signal.getsignal(number) == self._handle

    @fail_open("signal", None)
    def arm(self) -> None:
        """Handle the signal; does nothing in any thread but the main one, or where it does."""
        number = self._number
        if number is None or threading.current_thread() is not threading.main_thread():
            return
        present = signal.getsignal(number)
        if present is None or present == self._handle:
            return  # None: a handler in C, which could not be called
        self._before = present
        self._is_wanted = True
        signal.signal(number, self._handle)

    @fail_open("signal", None)
    def disarm(self) -> None:
        """Toggle nothing any more, and give the signal back if nothing was set over ours."""
        self._is_wanted = False
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and self._number is not None and self.armed:
            signal.signal(self._number, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_handling:
            return  # the service's handler, set after ours, calls ours in turn
        self._is_handling = True
        try:
            if self._is_wanted:
                self._toggle()
            if callable(self._before):
                self._before(number, frame)
        finally:
            self._is_handling = False


def _number_of(name: str) -> int | None:
    """The number of a signal here; ``None`` where the system has none of this name."""
    base, _, offset = name.partition("+")
    first = getattr(signal, base, None) if base else None
    return None if first is None else int(first) + int(offset or 0)
