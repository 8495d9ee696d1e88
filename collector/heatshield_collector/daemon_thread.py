"""Runs blocking work beside the event loop in a thread that nothing waits for."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["in_daemon_thread"]

Answer = TypeVar("Answer")


async def in_daemon_thread(work: Callable[[], Answer], name: str) -> Answer:
    """Wait until ``work`` has returned, or until this task is cancelled; returns what it did.

    ``asyncio.to_thread`` would not do where a deadline holds: its threads are joined when the loop
    is closed and again when the interpreter ends, however long they take.

    Args:
        work: called in a daemon thread; what it raises is raised here.
        name: of the thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def run() -> None:
        try:
            settle: Callable[[], None] = partial(_settle, done, done.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            settle = partial(_settle, done, done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if not done.done():
        settle(value)
