"""Whether a user's call may go on, for gateways: decided as a service decides it.

The collector is a client of itself here. For each service that an entry or a limit names it keeps
the table that an instance of that service would keep
(:class:`heatshield.breakers.lease_table.BreakerTable`) and asks it. What the table refused is
counted as services' reports are: refused demand holds an entry open. The leases of these tables are
renewed at each question, as nothing lies between them and the one writer of the entries.

All gateways are answered from one table, so it spends whole budgets. Where instances of the service
follow the breakers themselves, three things are left to them: pacing and declared limits, because
they can have a call wait for its turn and know what calls cost, and probes of half-open entries,
which would not reach the instance that is to let them through.

A question costs no I/O, and where nothing is about its service one look into a dictionary.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from heatshield.breakers.gate import rejection_by
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.route_match import best_match
from heatshield.clock import Clock
from heatshield.contract import (
    BreakerEntry,
    BreakerMode,
    DeclaredLimit,
    EntryScope,
    Rejections,
    Snapshot,
    StateVersion,
)
from heatshield.identity.wire_id import wire_id
from heatshield.rejection import BreakerOpen

__all__ = ["REPORT_S", "Checks", "Question"]

REPORT_S: Final = 1.0
"""Seconds between two counts of what was refused, as services report it."""

MAX_SERVICES: Final = 1_000
"""Services that have a table because a limit is about every service; further ones have no limit."""

_KNOWN_S: Final = 5.0
"""Seconds for which the calls of a service are remembered as they were looked up."""

_GATEWAY: Final = "heatshield-gateways"
"""The instance that probes where no instance of the service does."""

_log = logging.getLogger(__name__)


class Grants(Protocol):
    """What is asked of the breaker state."""

    def at(self) -> StateVersion:
        """The version the state is at."""
        ...

    def snapshot(self) -> Snapshot:
        """The whole state."""
        ...

    def count_refused(self, rows: Iterable[Rejections]) -> None:
        """Count calls that were refused here."""
        ...

    def enforced_services(self) -> frozenset[str]:
        """The services whose instances enforce the state themselves."""
        ...


class Question(NamedTuple):
    """What a gateway says of a request.

    Attributes:
        service: that it goes to.
        user: the acting user as services name it; ``None`` when no user is known.
        call: the operation, if the gateway knows it.
        method: of HTTP; tells the call, with ``path``, where ``call`` is empty.
        path: as it came.
    """

    service: str
    user: str | None
    call: str = ""
    method: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class _Held:
    """One version of the breaker state, as gateways are answered from it.

    Attributes:
        state: as it was granted.
        enforced: the services that enforce it themselves.
        tables: by service; one is added when a limit is about every service.
        calls: that entries and limits are about, by service.
    """

    state: Snapshot
    enforced: frozenset[str]
    tables: dict[str, BreakerTable] = field(default_factory=dict)
    calls: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def has(self, service: str) -> bool:
        """Whether anything is about a service."""
        return any(service == entry.service for entry in self.state.entries) or any(
            limit.service in ("", service) for limit in self.state.limits
        )

    def add(self, service: str, before: BreakerTable | None, now: float) -> BreakerTable:
        """Give a service its table, which may have held an earlier version."""
        table = before or BreakerTable(service, instance=lambda: _GATEWAY)
        table.apply(self._granted(service), now)
        self.calls[service] = self._calls_of(service)
        self.tables[service] = table
        return table

    def _granted(self, service: str) -> Snapshot:
        """What is granted to gateways before a service."""
        leaves = service in self.enforced
        entries = tuple(
            _whole(entry)
            for entry in self.state.entries
            if entry.service == service
            and not (leaves and (entry.mode is BreakerMode.PACE or entry.prober))
        )
        limits = () if leaves else tuple(replace(one, instances=1) for one in self.state.limits)
        return replace(self.state, entries=entries, limits=limits)

    def _calls_of(self, service: str) -> tuple[str, ...]:
        named: Iterable[BreakerEntry | DeclaredLimit] = (
            *(one for one in self.state.entries if one.scope is not EntryScope.PATTERN),
            *self.state.limits,
        )
        mine = (one.call for one in named if one.service in ("", service) and one.call)
        return tuple(dict.fromkeys(mine))


def _whole(entry: BreakerEntry) -> BreakerEntry:
    """An entry for the one table that all gateways share."""
    return replace(entry, instances=1, prober=entry.prober or _GATEWAY)


def _no_calls(_service: str) -> Iterable[str]:
    return ()


class Checks:
    """Decides for gateways. Thread-safe.

    Args:
        grants: the breaker state.
        clock: what leases and the thread of :meth:`start` go by.
        known_calls: calls that a service lately had; where several templates fit a request, it is
            the one that says most, whether or not an entry names it.
    """

    def __init__(
        self,
        grants: Grants,
        clock: Clock,
        known_calls: Callable[[str], Iterable[str]] = _no_calls,
    ) -> None:
        self._grants = grants
        self._clock = clock
        self._known_calls = known_calls
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._held: _Held | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-checks", daemon=True)

    def start(self) -> None:
        """Start the thread that counts what was refused."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after a last count."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def refusal(self, question: Question) -> BreakerOpen | None:
        """Why the request must not go on; ``None`` lets it. An internal error lets it go on."""
        try:
            return self._refusal(question)
        except Exception:  # noqa: BLE001 - fail open: a mistake of ours refuses no user
            _log.exception("could not answer a gateway; the request goes on")
            return None

    def _refusal(self, question: Question) -> BreakerOpen | None:
        held = self._held
        if held is None or held.state.at != self._grants.at():
            held = self._follow()
        service = wire_id(question.service)
        now = self._clock.monotonic()
        table = held.tables.get(service) or self._add(held, service, now)
        if table is None:
            return None
        table.renewed(held.state.at, now)
        call = question.call or self._call_of(question, held, service, now)
        decision = table.decide(question.user, call, now)
        return None if decision.allowed else rejection_by(decision)

    def count(self) -> None:
        """Count what was refused since the last time. Called each :data:`REPORT_S`."""
        held = self._held
        if held is None or not held.tables:
            return
        if held.enforced != self._grants.enforced_services():
            held = self._follow(anew=True)
        self._drain(tuple(held.tables.values()))

    def _run(self) -> None:
        while not self._clock.wait(self._ended, REPORT_S):
            self._try_to_count()
        self._try_to_count()

    def _try_to_count(self) -> None:
        try:
            self.count()
        except Exception:  # noqa: BLE001 - the thread must outlive any failure
            _log.exception("could not count what gateways refused")

    def _drain(self, tables: Iterable[BreakerTable]) -> None:
        for table in tables:
            rows = table.drain_rejections()
            if rows:
                self._grants.count_refused(rows)

    def _follow(self, *, anew: bool = False) -> _Held:
        """Take over the state as it is now.

        Args:
            anew: look again which services enforce it themselves.
        """
        with self._lock:
            before, state = self._held, self._grants.snapshot()
            if before is None or anew:
                enforced = self._grants.enforced_services()
            elif before.state.at == state.at:
                return before
            else:
                enforced = before.enforced
            held, now = _Held(state, enforced), self._clock.monotonic()
            tables = {} if before is None else dict(before.tables)
            for service in {one.service for one in state.entries} | tables.keys():
                kept = tables.get(service)
                if before is not None and (service in enforced) != (service in before.enforced):
                    kept = None  # it is granted something else at the same version
                if held.has(service) and held.add(service, kept, now) is kept:
                    del tables[service]
            self._held = held
        self._drain(tables.values())
        return held

    def _add(self, held: _Held, service: str, now: float) -> BreakerTable | None:
        """The table of a service that is asked about for the first time, if it is to have one."""
        if not held.state.limits or not held.has(service) or len(held.tables) >= MAX_SERVICES:
            return None
        with self._lock:
            return held.tables.get(service) or held.add(service, None, now)

    def _call_of(self, question: Question, held: _Held, service: str, now: float) -> str:
        """The call that a request is; where none is known that fits, it is named after its path."""
        method, path = question.method, question.path
        found = best_match(held.calls[service], method, path)
        if found is None and not held.state.limits:
            return f"{method} {path.partition('?')[0]}"
        known = self._calls_of(question.service, now)
        calls = known if found is None else (found, *known)
        return best_match(calls, method, path) or f"{method} {path.partition('?')[0]}"

    def _calls_of(self, service: str, now: float) -> tuple[str, ...]:
        looked_up_s, calls = self._known.get(service, (float("-inf"), ()))
        if now - looked_up_s >= _KNOWN_S:
            calls = tuple(self._known_calls(service))
            if service not in self._known and len(self._known) >= MAX_SERVICES:
                self._known.clear()  # of services that nobody asks about any more
            self._known[service] = now, calls
        return calls
