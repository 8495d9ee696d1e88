"""Runs blocking work beside the event loop in a thread that nothing waits for."""

import asyncio
import contextlib
import threading
from collections.abc import Callable

__all__ = ["in_daemon_thread"]


async def in_daemon_thread(work: Callable[[], None], name: str) -> None:
    """Wait until ``work`` has returned, or until this task is cancelled.

    ``asyncio.to_thread`` would not do where a deadline holds: its threads are joined when the loop
    is closed and again when the interpreter ends, however long they take.

    Args:
        work: called in a daemon thread; what it raises is raised here.
        name: of the thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    await done
