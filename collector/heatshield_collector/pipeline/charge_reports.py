"""Counts charge reports on a thread of their own, all that wait at once.

::

    submit() ──→ queue ──→ [reports thread] ──→ answer
        bounded in bytes   read, count

Reports are not stored, so a sender's answer waits for no disk; and they are not queued behind
spans, whose decoding takes up to 0.2 s a group.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from heatshield.charge_report import ChargeReport
from heatshield.clock import Clock, Instant
from heatshield_collector.intake.payload import IntakeError, OverloadedError
from heatshield_collector.pipeline.group import BUSY_RETRY_S

__all__ = ["GATHER_S", "QUEUE_BYTES", "ReportPipeline", "TakesReports"]

QUEUE_BYTES: Final = 16 * 2**20
"""Most bytes of reports that wait: some 1,000 large ones. What is refused is sent again."""

GATHER_S: Final = 0.02
"""Least time between the starts of two batches: a batch has a fixed cost of some 2 ms, so an idle
platform's reports, which come one by one, take a tenth of a core at most."""

_log = logging.getLogger(__name__)


class TakesReports(Protocol):
    """Counts reports that came at one moment (:class:`heatshield_collector.analysis.Analysis`)."""

    def report(self, reports: Sequence[ChargeReport], now: Instant) -> list[bool]:
        """Of each whether it was counted; one that came before is not counted again."""
        ...


@dataclass(eq=False, slots=True)
class _Waiting:
    size: int
    read: Callable[[], ChargeReport]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[bool]

    def count(self, *, counted: bool) -> None:
        """Answer that it was counted, or that it came before."""
        self._settle(lambda: self.answer.set_result(counted))

    def fail(self, error: Exception) -> None:
        """Answer with an error."""
        self._settle(lambda: self.answer.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def once() -> None:
            if not self.answer.done():  # the sender may have gone
                settle()

        try:
            self.loop.call_soon_threadsafe(once)
        except RuntimeError:
            _log.debug("the event loop of a sender is closed; its answer is dropped")


class ReportPipeline:
    """Implements :class:`heatshield_collector.intake.charge_reports.ReportTaker`.

    Args:
        charges: counts what was read.
        clock: stamps each batch once, and is what the thread waits on.
    """

    def __init__(self, charges: TakesReports, clock: Clock) -> None:
        self._charges = charges
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="heatshield-reports", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Refuse new reports, count those that wait, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def submit(self, size: int, read: Callable[[], ChargeReport]) -> bool:
        """Return once the report is counted: whether it was, and had not come before.

        Raises:
            OverloadedError: too many wait, or the collector ends.
            IntakeError: as ``read`` raised it.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(size, read, loop, loop.create_future())
        with self._changed:
            if self._closed:
                raise OverloadedError(BUSY_RETRY_S, "the collector is shutting down")
            if self._bytes and self._bytes + size > QUEUE_BYTES:
                raise OverloadedError(BUSY_RETRY_S, "too many charge reports wait")
            self._waiting.append(waiting)
            self._bytes += size
            self._changed.notify()
        return await waiting.answer

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            began_s = self._clock.monotonic()
            self._count(taken)
            with self._changed:
                self._clock.wait_for(
                    self._changed,
                    lambda: self._closed,
                    began_s + GATHER_S - self._clock.monotonic(),
                )

    def _take(self) -> list[_Waiting] | None:
        """Wait until a report has come; all that have. ``None``: it is closed, and empty."""
        with self._changed:
            self._clock.wait_for(self._changed, lambda: bool(self._waiting) or self._closed)
            taken, self._waiting = self._waiting, []
            self._bytes -= sum(one.size for one in taken)
            return taken or None

    def _count(self, taken: Sequence[_Waiting]) -> None:
        reports: list[ChargeReport] = []
        readable: list[_Waiting] = []
        for one in taken:
            try:
                reports.append(one.read())
            except IntakeError as error:
                one.fail(error)
            except Exception as error:  # noqa: BLE001 - the sender is told, the thread goes on
                _log.exception("reading a charge report failed")
                one.fail(error)
            else:
                readable.append(one)
        if not reports:
            return
        try:
            counted = self._charges.report(reports, self._clock.now())
        except Exception as error:  # noqa: BLE001 - as above
            _log.exception("counting %d charge reports failed", len(reports))
            for one in readable:
                one.fail(error)
        else:
            for one, is_counted in zip(readable, counted, strict=True):
                one.count(counted=is_counted)
