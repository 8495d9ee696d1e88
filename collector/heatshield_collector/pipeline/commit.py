"""Group commit: many payloads, one transaction, and only then the acks.

::

    submit() ──→ queue ──→ [decode thread] ──→ charge ──→ group ──→ [store thread] ──→ ack
             bounded in bytes   all of it at once       (detection does    one transaction
                                                         not wait for disk)

The two threads work on following groups at the same time: one is in Rust and C++ parsing and
linking, the other in DuckDB. When a joint decode fails, the bad payloads alone are refused and the
others are decoded. A killed collector loses nothing that it acknowledged: what it had
not, the senders send again.
"""

import asyncio
import logging
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import pyarrow as pa

from heatshield.clock import Clock
from heatshield_collector.decode import (
    Decoded,
    DecodeError,
    decode_logs,
    decode_metrics,
    decode_traces,
)
from heatshield_collector.intake.payload import (
    Accepted,
    IntakeError,
    MalformedError,
    OverloadedError,
    Payload,
    Signal,
)
from heatshield_collector.link.requests import unlinked_parts
from heatshield_collector.store import Store, StoreFullError

__all__ = ["CommitLoop", "Commits"]

_log = logging.getLogger(__name__)

GROUP_BYTES: Final = 8 * 2**20
"""Most payload bytes decoded at once: some 20,000 spans, 0.2 s of work."""

GROUP_INTERVAL_S: Final = 0.05
"""Least time between the starts of two groups, unless much or something urgent waits: a group has a
fixed cost of some 10 ms of processor time, and an idle platform's payloads come one by one. So an
idle collector takes a fifth of a core at most."""

URGENT_INTERVAL_S: Final = 0.01
"""The same for what its sender calls urgent; a bound, for senders may call everything so."""

HURRY_BYTES: Final = 256 * 1024
"""What is much: a group of this size is worth starting at once."""

IDLE_S: Final = 1.0
"""Seconds without a payload after which what waits for later spans is looked at all the same."""

GROUPS_AHEAD: Final = 100
"""Decoded groups that may wait for the disk: five seconds of a quiet platform's. While the store
folds its log into its file it takes nothing for a second or more, and hot users must be found
meanwhile. Groups that wait still count as queued, so those of a busy platform are bounded in bytes.
"""

FULL_RETRY_S: Final = 5.0
BUSY_RETRY_S: Final = 1.0

_DECODERS: Final[dict[Signal, Callable[[Sequence[bytes], int], Decoded]]] = {
    "traces": decode_traces,
    "logs": decode_logs,
    "metrics": decode_metrics,
}
_TABLES: Final[dict[Signal, str]] = {"traces": "spans", "logs": "logs", "metrics": "samples"}

_LEFT_OUT: Final[dict[Signal, str]] = {
    "traces": "left out: a trace id must be 16 bytes and a span id 8, neither all zero",
    "logs": "left out",
    "metrics": "left out: a metric needs a name, a point a value, a histogram a bucket more than"
    " bounds",
}
"""Why some records of a payload were not kept."""


class Commits(Protocol):
    """What is told of commits; called on the commit threads, must be quick."""

    def charged(self, spans: pa.Table, now_ns: int) -> pa.Table:
        """Spans (``model.SPANS``) were decoded: charge them.

        Returns:
            ``model.REQUEST_PARTS``, to be stored with them.
        """
        ...

    def idle(self) -> None:
        """No payload came for :data:`IDLE_S`; on the thread that calls :meth:`charged`."""
        ...

    def committed(self, rows: Mapping[str, int], seconds: float) -> None:
        """A group is durable; ``seconds`` since its first payload was submitted.

        Args:
            rows: how many, by table.
            seconds: likewise.
        """
        ...


@dataclass(slots=True)
class _Waiting:
    """A payload with whom to tell."""

    payload: Payload
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Accepted]
    since_s: float

    def accept(self, accepted: Accepted) -> None:
        self._tell(lambda: self.done.set_result(accepted))

    def refuse(self, error: IntakeError) -> None:
        self._tell(lambda: self.done.set_exception(error))

    def _tell(self, settle: Callable[[], None]) -> None:
        def once() -> None:
            if not self.done.done():  # the sender may have hung up
                settle()

        try:
            self.loop.call_soon_threadsafe(once)
        except RuntimeError:
            _log.debug("the event loop is gone, and the sender with it")


@dataclass(slots=True)
class _Group:
    """Payloads decoded together, with what will be answered once they are durable."""

    waiting: list[_Waiting] = field(default_factory=list)
    answers: list[Accepted] = field(default_factory=list)
    tables: dict[str, list[pa.Table]] = field(default_factory=dict)

    def add(self, waiting: Sequence[_Waiting], decoded: Decoded, signal: Signal) -> None:
        self.waiting += waiting
        self.answers += [
            Accepted(rejected, _LEFT_OUT[signal]) if rejected else Accepted()
            for rejected in decoded.rejected
        ]
        self.tables.setdefault(_TABLES[signal], []).append(decoded.table)
        self.tables.setdefault("resources", []).append(decoded.resources)
        if decoded.series is not None:
            self.tables.setdefault("series", []).append(decoded.series)

    def merge(self, other: "_Group") -> None:
        self.waiting += other.waiting
        self.answers += other.answers
        for name, tables in other.tables.items():
            self.tables.setdefault(name, []).extend(tables)

    def joined(self) -> dict[str, pa.Table]:
        return {name: pa.concat_tables(tables) for name, tables in self.tables.items()}


class CommitLoop:
    """Implements :class:`heatshield_collector.intake.payload.Committer`.

    Args:
        store: where groups become durable.
        commits: told of each.
        clock: for receive times.
        queue_bytes: most payload bytes that are not yet durable; beyond it senders are refused.
    """

    def __init__(self, store: Store, commits: Commits, clock: Clock, queue_bytes: int) -> None:
        self._store = store
        self._commits = commits
        self._clock = clock
        self._queue_bytes = queue_bytes
        self._arrived = threading.Condition()
        self._queue: list[_Waiting] = []
        self._bytes = 0
        self._stopping = False
        self._group_began_s = -math.inf
        self._groups: queue.Queue[_Group | None] = queue.Queue(GROUPS_AHEAD)
        self._threads = [
            threading.Thread(target=self._decode_loop, name="heatshield-decode", daemon=True),
            threading.Thread(target=self._store_loop, name="heatshield-store", daemon=True),
        ]

    @property
    def queued_bytes(self) -> int:
        """Payload bytes that are not yet durable."""
        return self._bytes

    @property
    def alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Start the two threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Take nothing new, make durable what is queued, end the threads."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        for thread in self._threads:
            thread.join()

    async def submit(self, payload: Payload) -> Accepted:
        """Return once the payload is durable.

        Raises:
            OverloadedError: the queue or the disk is full; the payload was not kept.
            MalformedError: it is no export request of its signal.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(payload, loop, loop.create_future(), self._clock.monotonic())
        size = len(payload.body)
        with self._arrived:
            if self._stopping:
                raise OverloadedError(BUSY_RETRY_S, "the collector is shutting down")
            # An empty queue takes any payload, or one over the bound could never be sent.
            if self._bytes and self._bytes + size > self._queue_bytes:
                raise OverloadedError(BUSY_RETRY_S, "the commit queue is full")
            self._bytes += size
            self._queue.append(waiting)
            self._arrived.notify()
        return await waiting.done

    def _decode_loop(self) -> None:
        while (taken := self._take()) is not None:
            if not taken:
                self._idle()
                continue
            group = self._decoded(taken)
            if group.waiting:
                self._groups.put(group)
        self._groups.put(None)

    def _idle(self) -> None:
        try:
            self._commits.idle()
        except Exception:  # noqa: BLE001 - the loop goes on
            _log.exception("settling charges failed")

    def _take(self) -> list[_Waiting] | None:
        """The next group's payloads, none if none came; ``None`` when all is done and it stops."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue or self._stopping, timeout=IDLE_S)
            if not self._queue:
                return None if self._stopping else []
            self._gather()
            taken, size = 0, 0
            while taken < len(self._queue) and size < GROUP_BYTES:
                size += len(self._queue[taken].payload.body)
                taken += 1
            group, self._queue = self._queue[:taken], self._queue[taken:]
            return group

    def _gather(self) -> None:
        """Let more payloads come until the next group is due."""
        while not self._stopping and self._gathered_bytes() < HURRY_BYTES:
            urgent = any(one.payload.urgent for one in self._queue)
            interval_s = URGENT_INTERVAL_S if urgent else GROUP_INTERVAL_S
            left_s = self._group_began_s + interval_s - self._clock.monotonic()
            if left_s <= 0:
                break
            self._arrived.wait(left_s)
        self._group_began_s = self._clock.monotonic()

    def _gathered_bytes(self) -> int:
        """What has come; not what waits for the disk, or each payload then made a group."""
        return sum(len(one.payload.body) for one in self._queue)

    def _decoded(self, taken: list[_Waiting]) -> _Group:
        group = _Group()
        now_ns = self._clock.time_ns()
        for signal in _DECODERS:
            rows = [one for one in taken if one.payload.signal == signal]
            if rows:
                self._decode(rows, signal, now_ns, group)
            # At once: who is hot must not be found later because metrics came along.
            if signal == "traces" and (tables := group.tables.get("spans")):
                group.tables["request_parts"] = [self._charged(pa.concat_tables(tables), now_ns)]
        return group

    def _charged(self, spans: pa.Table, now_ns: int) -> pa.Table:
        try:
            return self._commits.charged(spans, now_ns)
        except Exception:  # noqa: BLE001 - see below
            # Telemetry is kept even if it can't be charged: a bug there must not lose spans.
            _log.exception("charging a batch of %d spans failed", spans.num_rows)
            return unlinked_parts(spans, now_ns)

    def _decode(self, rows: list[_Waiting], signal: Signal, now_ns: int, group: _Group) -> None:
        """Decode jointly; if that fails, refuse the bad ones and decode the others."""
        try:
            decoded = _DECODERS[signal]([one.payload.body for one in rows], now_ns)
        except DecodeError as error:
            if error.bad or len(rows) == 1:
                bad = error.bad or {0: str(error)}
                self._release([rows[index] for index in bad])
                for index, reason in bad.items():
                    rows[index].refuse(MalformedError(reason))
                rest = [[row for index, row in enumerate(rows) if index not in bad]]
            else:
                rest = [[row] for row in rows]
            for some in filter(None, rest):
                self._decode(some, signal, now_ns, group)
        except Exception:  # noqa: BLE001 - the senders are told, and the loop goes on
            _log.exception("decoding %d payloads failed", len(rows))
            self._release(rows)
            for one in rows:
                one.refuse(OverloadedError(BUSY_RETRY_S, "the collector failed to decode this"))
        else:
            group.add(rows, decoded, signal)

    def _store_loop(self) -> None:
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
                self._commit(group)

    def _commit(self, group: _Group) -> None:
        try:
            tables = group.joined()
            self._store.append(tables)
        except Exception as error:  # noqa: BLE001 - the senders are told, and the loop goes on
            _log.exception("a group of %d payloads was not stored", len(group.waiting))
            retry_s = FULL_RETRY_S if isinstance(error, StoreFullError) else BUSY_RETRY_S
            self._release(group.waiting)
            for one in group.waiting:
                one.refuse(OverloadedError(retry_s, str(error)))
            return
        self._release(group.waiting)
        for one, answer in zip(group.waiting, group.answers, strict=True):
            one.accept(answer)
        self._count(group, tables)

    def _count(self, group: _Group, tables: dict[str, pa.Table]) -> None:
        rows = {name: table.num_rows for name, table in tables.items()}
        waited_s = self._clock.monotonic() - min(one.since_s for one in group.waiting)
        try:
            self._commits.committed(rows, waited_s)
        except Exception:  # noqa: BLE001 - the group is durable, and the loop goes on
            _log.exception("counting a commit failed")

    def _release(self, rows: Sequence[_Waiting]) -> None:
        with self._arrived:
            self._bytes -= sum(len(one.payload.body) for one in rows)
