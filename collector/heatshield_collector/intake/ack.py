"""How a sender learns what became of its payload.

The pipeline settles each :class:`Ack` exactly once, after the transaction or at the refusal. An
HTTP or gRPC sender awaits a :class:`FutureAck`; a listener that reads a log would advance its
offset.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from heatshield_collector.intake.payload import Accepted, IntakeError

__all__ = ["Ack", "FutureAck"]

_log = logging.getLogger(__name__)


class Ack(Protocol):
    """The answer to one payload, given once. Called on the pipeline's threads: quick, no raising.

    A sender that has gone away is no error; its answer is dropped.
    """

    def accept(self, accepted: Accepted) -> None:
        """The payload is durable."""
        ...

    def refuse(self, error: IntakeError) -> None:
        """Nothing of the payload was kept."""
        ...


class FutureAck:
    """An :class:`Ack` that a task awaits; made on the event loop of that task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Accepted] = self._loop.create_future()

    def accept(self, accepted: Accepted) -> None:
        """Have :meth:`answer` return."""
        self._settle(lambda: self._answer.set_result(accepted))

    def refuse(self, error: IntakeError) -> None:
        """Have :meth:`answer` raise."""
        self._settle(lambda: self._answer.set_exception(error))

    async def answer(self) -> Accepted:
        """Wait until the payload is durable.

        Raises:
            IntakeError: nothing of it was kept.
        """
        return await self._answer

    def _settle(self, settle: Callable[[], None]) -> None:
        def once() -> None:
            if not self._answer.done():  # the waiting task may have been cancelled
                settle()

        try:
            self._loop.call_soon_threadsafe(once)
        except RuntimeError:
            _log.debug("the event loop of a sender is closed; its answer is dropped")
