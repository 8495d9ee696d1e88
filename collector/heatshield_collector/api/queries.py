"""Answers questions on threads of their own, in bounded time, for as long as the asker is there.

Nothing that controls breakers, takes in telemetry or tells health waits for these threads: those
routes are coroutines, and there is no other pool of threads that a route could wait for.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from heatshield_collector.store.interrupt import Interrupt, interrupted_by
from heatshield_collector.workers import Workers

__all__ = ["QUERY_S", "Asker", "Queries", "QueryAsker", "ViewAsker", "add_queries"]

QUERY_S: Final = 15.0
"""Longest that an answer may take, with the time that it waited for a thread."""

QUERY_THREADS: Final = 4
"""Most questions to the store at once."""

VIEW_THREADS: Final = 2
"""Most looks at what is in memory (loads, alerts, the collector's own metrics) at once. They are
quick, and have threads of their own: people want them most when the store is slow."""

MAX_WAITING: Final = 64
"""Most questions that wait or are answered; with more, 503."""

_RETRY: Final = {"Retry-After": "1"}
_END_AGAIN_S: Final = 0.05


class Queries:
    """One kind of questions.

    Args:
        threads: most that are answered at once.
        name: what the threads are called.
        limit_s: seconds that an answer may take.
        most: how many may wait or be answered.
    """

    def __init__(
        self, threads: int, name: str, limit_s: float = QUERY_S, most: int = MAX_WAITING
    ) -> None:
        self._workers = Workers(threads, name)
        self._limit_s = limit_s
        self._most = most
        self._asked = 0
        self._ending: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request, work: Callable[[], Response]) -> Response:
        """Have ``work`` done, unless the asker leaves or time runs out.

        Raises:
            HTTPException: 503, when too many wait or the answer took too long.
        """
        if self._asked >= self._most:
            raise HTTPException(503, "too many questions at once; ask again in a second", _RETRY)
        interrupt = Interrupt()

        def interruptible() -> Response:
            with interrupted_by(interrupt):
                return work()

        loop = asyncio.get_running_loop()
        answer = self._workers.submit(interruptible)
        self._asked += 1
        answer.add_done_callback(lambda _: self._count_out(loop))
        waiting = asyncio.ensure_future(asyncio.wrap_future(answer))
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait(
                (waiting, left), timeout=self._limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            if waiting.done():
                return waiting.result()
            if left.done():
                return Response(status_code=499)  # for nobody: the connection is closed
            text = f"the answer took more than {self._limit_s:g} s; ask for less"
            raise HTTPException(503, text, _RETRY)
        finally:
            left.cancel()
            if not waiting.done():
                waiting.cancel()
                ending = asyncio.create_task(_end(interrupt, answer.done))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    def _count_out(self, loop: asyncio.AbstractEventLoop) -> None:
        def count() -> None:
            self._asked -= 1

        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(count)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _end(interrupt: Interrupt, is_done: Callable[[], bool]) -> None:
    """End a query for good: one that had not quite begun does not notice the first time."""
    while True:
        interrupt.end()
        if is_done():
            return
        await asyncio.sleep(_END_AGAIN_S)


class Asker:
    """One request's way to the threads that answer it."""

    def __init__(self, queries: Queries, request: Request) -> None:
        self._queries = queries
        self._request = request

    async def answer(self, kind: Any, work: Callable[[], object]) -> Response:
        """Do ``work`` on a thread and write its result down there, as JSON of the type ``kind``."""

        def respond() -> Response:
            body = _adapter(kind).dump_json(work(), by_alias=True)
            return Response(body, media_type="application/json")

        return await self.respond(respond)

    async def respond(self, work: Callable[[], Response]) -> Response:
        """Make the response on a thread."""
        return await self._queries.answer(self._request, work)


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def add_queries(app: FastAPI) -> None:
    """Give an application its threads; they start with the first question."""
    app.state.queries = Queries(QUERY_THREADS, "heatshield-query")
    app.state.views = Queries(VIEW_THREADS, "heatshield-view")


async def _query_asker(request: Request) -> Asker:
    return Asker(request.app.state.queries, request)


async def _view_asker(request: Request) -> Asker:
    return Asker(request.app.state.views, request)


QueryAsker = Annotated[Asker, Depends(_query_asker)]
"""Asks the store."""

ViewAsker = Annotated[Asker, Depends(_view_asker)]
"""Looks at what is in memory."""
