"""Threads, locks and waits of the operating system, also where gevent or eventlet replaces them.

These libraries make a greenlet of each thread, and have all of them share one thread of the
system, which they hand on wherever :mod:`socket`, :mod:`time` or :mod:`threading` would wait. What
heatshield does in the background must not depend on that: its threads are real ones, and wait by
what C offers, which is taken here, however early or late a process was patched. A lock of this kind
is right between greenlets, too, as long as nothing under it waits.
"""

import _socket
import _thread
import importlib.util
import os
import select
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Collection
from types import BuiltinFunctionType, ModuleType
from typing import Final, Protocol, Self, cast

__all__ = [
    "NativeThread",
    "Selector",
    "are_threads_green",
    "get_ident",
    "getaddrinfo",
    "green_sleep",
    "is_beside_greenlets",
    "lock",
    "may_give_way",
    "read",
    "rlock",
    "sleep",
    "socketpair",
]


def _again(module: ModuleType) -> ModuleType:
    """Another instance of a module of C, which nobody has patched.

    Nor will anybody: eventlet replaces reentrant locks that it finds in objects, by their type, and
    the types of another instance are others.
    """
    spec = module.__spec__
    if spec is None or spec.loader is None:
        return module
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


_C_THREAD: Final = _again(_thread)
_C_SELECT: Final = _again(select)

_start: Final[Callable[[Callable[[], object], tuple[()]], int]] = _C_THREAD.start_new_thread
_poll: Final[Callable[[], "_Poll"] | None] = getattr(_C_SELECT, "poll", None)

lock: Final[Callable[[], threading.Lock]] = _C_THREAD.allocate_lock
"""A lock that no greenlet gives way at."""

rlock: Final[Callable[[], threading.RLock]] = _C_THREAD.RLock
"""The same, for a thread that may take it again; all greenlets of a thread are one to it."""

get_ident: Final[Callable[[], int]] = _C_THREAD.get_ident
"""Which thread of the system this is."""

getaddrinfo: Final = _socket.getaddrinfo

socketpair: Final[Callable[[], tuple[_socket.socket, _socket.socket]]] = getattr(
    _socket, "socketpair", socket.socketpair
)

read: Final[Callable[[int, int], bytes]] = getattr(sys.modules.get("posix"), "read", os.read)


def are_threads_green() -> bool:
    """Whether gevent or eventlet makes greenlets of threads here, by now."""
    return not isinstance(_thread.start_new_thread, BuiltinFunctionType)


def sleep(seconds: float) -> None:
    """Stop this thread of the system, with all its greenlets."""
    never = lock()
    never.acquire()
    never.acquire(timeout=seconds)


def green_sleep(seconds: float) -> None:
    """Let other greenlets run meanwhile; where threads are none, or one can't, like :func:`sleep`.

    Not :func:`time.sleep`, which a service may have left as it is.
    """
    try:
        never = _thread.allocate_lock()
        never.acquire()
        never.acquire(timeout=seconds)
    except Exception:  # noqa: BLE001  # whichever: the greenlet that others give way to can't
        sleep(seconds)


_OURS: Final[set[int]] = set()
"""Which threads of the system run a :class:`NativeThread`."""

os.register_at_fork(after_in_child=_OURS.clear)  # they do not live on


def may_give_way() -> bool:
    """Whether this is a greenlet of the service, and a wait here would hold up others."""
    return are_threads_green() and get_ident() not in _OURS


def is_beside_greenlets() -> bool:
    """Whether this is a thread of ours in a process whose threads are greenlets."""
    return are_threads_green() and get_ident() in _OURS


class NativeThread:
    """A daemon thread of the system, whatever :class:`threading.Thread` is here.

    Args:
        target: what it runs.
        name: shown by debuggers, where threads are no greenlets.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        self._target = target
        self._name = name
        self._thread: threading.Thread | None = None
        self._ident = 0
        self._is_alive = False

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: when there can be no more threads.
        """
        if are_threads_green():
            self._is_alive = True
            try:
                _start(self._run, ())
            except BaseException:
                self._is_alive = False
                raise
        else:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._is_alive if self._thread is None else self._thread.is_alive()

    def is_current(self) -> bool:
        """Whether this is the thread that runs here."""
        return self._ident == get_ident()

    def join(self) -> None:
        """Wait until it is gone. Only for a thread that has nothing left to do."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        self._ident = ident = get_ident()
        _OURS.add(ident)
        try:
            self._target()
        finally:
            self._is_alive = False
            _OURS.discard(ident)


class _HasFileno(Protocol):
    def fileno(self) -> int:
        """The descriptor."""
        ...


class _Poll(Protocol):
    def register(self, fd: _HasFileno, eventmask: int, /) -> None:
        """Wait for this one, too."""
        ...

    def poll(self, timeout: float | None, /) -> list[tuple[int, int]]:
        """Wait for milliseconds."""
        ...


class Selector:
    """Waits for files like the selectors of :mod:`selectors`, and for any number of descriptors."""

    def __init__(self) -> None:
        self._poll = None if _poll is None else _poll()
        self._other = selectors.DefaultSelector() if self._poll is None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._other is not None:
            self._other.close()

    def register(self, file: _HasFileno, events: int) -> None:
        """Wait for this file.

        Args:
            file: an open one.
            events: of :mod:`selectors`.
        """
        if self._poll is None:
            cast("selectors.BaseSelector", self._other).register(file, events)
            return
        mask = select.POLLIN if events & selectors.EVENT_READ else 0
        self._poll.register(file, mask | (select.POLLOUT if events & selectors.EVENT_WRITE else 0))

    def select(self, timeout: float | None = None) -> Collection[object]:
        """What is ready, after ``timeout`` seconds at the latest."""
        if self._poll is None:
            return cast("selectors.BaseSelector", self._other).select(timeout)
        return self._poll.poll(None if timeout is None else max(0.0, timeout * 1_000))
