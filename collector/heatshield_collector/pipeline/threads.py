"""Runs the stages on two threads, or one group at a time on the caller's thread.

::

    offer() ──→ gather ──→ [decode thread] ──→ group ──→ [store thread] ──→ acks
         bounded in bytes   decode, charge              one transaction

The two threads work on following groups at the same time: one is in Rust and C++ parsing and
linking, the other in DuckDB. A killed collector loses nothing that it acknowledged; what it had
not acknowledged, the senders send again.
"""

import queue
import threading
from collections.abc import Iterable
from typing import Final

from heatshield.clock import Clock
from heatshield_collector.intake.ack import Ack, FutureAck
from heatshield_collector.intake.formats import Format
from heatshield_collector.intake.payload import Accepted, Payload, UnsupportedError
from heatshield_collector.pipeline.commit import GroupCommitter
from heatshield_collector.pipeline.decode import GroupDecoder
from heatshield_collector.pipeline.gather import GatherQueue
from heatshield_collector.pipeline.group import Charges, Group
from heatshield_collector.store import TelemetryStore

__all__ = ["GROUPS_AHEAD", "Pipeline"]

GROUPS_AHEAD: Final = 100
"""Decoded groups that may wait for the disk: five seconds of a quiet platform's. While the store
folds its log into its file it takes nothing for a second or more, and hot users must be found
meanwhile. Groups that wait still count as queued, so those of a busy platform are bounded in bytes.
"""


class Pipeline:
    """Implements :class:`heatshield_collector.intake.payload.Committer`.

    Args:
        store: where groups become durable.
        charges: handed spans before they are stored, and told of what is stored.
        formats: what payloads may be in.
        clock: stamps each group once, and is what threads wait on.
        queue_bytes: most payload bytes that are not yet durable; beyond it senders are refused.
    """

    def __init__(
        self,
        store: TelemetryStore,
        charges: Charges,
        formats: Iterable[Format],
        clock: Clock,
        queue_bytes: int,
    ) -> None:
        self._clock = clock
        self._gathered = GatherQueue(clock, queue_bytes)
        self._decoder = GroupDecoder(formats, charges, self._gathered.release)
        self._committer = GroupCommitter(store, charges, clock, self._gathered.release)
        self._groups: queue.Queue[Group | None] = queue.Queue(GROUPS_AHEAD)
        self._threads = [
            threading.Thread(target=self._decode_groups, name="heatshield-decode", daemon=True),
            threading.Thread(target=self._commit_groups, name="heatshield-store", daemon=True),
        ]

    @property
    def queued_bytes(self) -> int:
        """Payload bytes that are not yet durable."""
        return self._gathered.held_bytes

    @property
    def alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Start the two threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Refuse new payloads, make durable what is queued, end the threads."""
        self._gathered.close()
        for thread in self._threads:
            thread.join()

    async def submit(self, payload: Payload) -> Accepted:
        """Return once the payload is durable.

        Raises:
            OverloadedError: the queue or the disk is full; the payload was not kept.
            MalformedError: its bytes are not in its format.
            UnsupportedError: no such format is known.
        """
        ack = FutureAck()
        self.offer(payload, ack)
        return await ack.answer()

    def offer(self, payload: Payload, ack: Ack) -> None:
        """Queue a payload whose ``ack`` is settled once it is durable or refused. From any thread.

        Raises:
            OverloadedError: the queue is full or closed; the ack is left alone.
            UnsupportedError: no such format is known; the ack is left alone.
        """
        if not self._decoder.knows(payload):
            raise UnsupportedError(f"no format {payload.format!r} of {payload.signal} is known")
        self._gathered.offer(payload, ack)

    def run_group(self) -> int:
        """Take one group of what is queued through all stages, on this thread, at this moment.

        For simulations and tests on virtual time, in place of :meth:`start`.

        Returns:
            How many payloads it had; none when nothing is queued.
        """
        taken = self._gathered.take_now()
        if taken:
            group = self._decoder.decode(taken, self._clock.now())
            if group.waiting:
                self._committer.commit(group)
        return len(taken)

    def _decode_groups(self) -> None:
        while (taken := self._gathered.take()) is not None:
            now = self._clock.now()
            if not taken:
                self._decoder.settle(now)
                continue
            group = self._decoder.decode(taken, now)
            if group.waiting:
                self._groups.put(group)
        self._groups.put(None)

    def _commit_groups(self) -> None:
        running = True
        while running:
            group = self._groups.get()
            running = group is not None
            # Whatever else has been decoded by now goes into the same transaction.
            while running and group is not None:
                try:
                    more = self._groups.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    running = False
                else:
                    group.merge(more)
            if group is not None:
                self._committer.commit(group)
