"""The breaker state behind a lock, and all that must hear of a change of it.

:class:`heatshield_alerts.breaker_control.BreakerControl` decides and is pure; this hands it the
time and carries out what a change means: clients' streams wake, people's events, the audit. A round
of control brings its own moment; what people and clients ask for is stamped here, once.

A change has two locks, and readers need none::

    changing ─┬─ registry: decide ─┬─ keep (the disk, 150 ms at most) ─ announce ─┬─
              └────────────────────┘                                              └─ next change
    reports, spans ── registry, for microseconds
    state, checks, streams ── what was announced last

So nobody but the next change waits for the disk, and nobody sees what a restart would take back.
"""

# long: one class is all that may touch the registry, under one lock

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Clock, Instant
from heatshield.contract import (
    BreakerEntry,
    Delta,
    EntryScope,
    PlatformMode,
    Rejections,
    Report,
    ReportAnswer,
    Snapshot,
    StateVersion,
)
from heatshield.identity.wire_id import wire_id
from heatshield_alerts.breaker_changes import Change, ChangeKind
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.draft import Draft
from heatshield_alerts.held_breaker import count_refused
from heatshield_alerts.instances import Instance
from heatshield_alerts.policy import Policy
from heatshield_alerts.policy_change import follow_policy, has_grown
from heatshield_alerts.report_numbers import ReportNumbers
from heatshield_alerts.seen import Seen
from heatshield_alerts.trip_policy import Decision
from heatshield_collector.control.outlets import Outlets
from heatshield_collector.control.platform_mode import Keeps
from heatshield_collector.events import Signal
from heatshield_collector.ports import TripRefusedError, TripRequest

__all__ = ["Breakers"]

_log = logging.getLogger(__name__)

COUNT_LIMITS_S: Final = 10.0
"""Seconds between looks at how many instances share the declared limits: each change is told to all
clients, and what an instance spends goes by the share that it is dealt."""

LOOK_S: Final = 1.0
"""Seconds between looks at whether there are twice as many."""

CAPACITY_AGE_S: Final = 0.25
"""Age at which capacities are counted anew: every batch asks, and there may be thousands of
instances."""

WALL_JUMP_NS: Final = 10**9
"""A wall clock that has gone so far from the one that never goes back has jumped. What is kept goes
by it, so it is kept anew: a restart would else take entries and hold-downs for older than they
are."""

STALLED_S: Final = 60.0
"""Seconds without a round after which clients' reports end what is over: a round that hangs holds
no user past the time that was granted. Twice the usual lease, so that a process that was stopped
for a while first evaluates, and goes on with what it held."""


class Breakers:
    """Implements :class:`heatshield_collector.ports.BreakerService`. Thread-safe.

    Args:
        control: the registry; nothing else may touch it.
        outlets: of them the hub that people listen to, the journal, where the audit goes, and what
            keeps the state for a restart.
        rejected: told of (service, call, count) that clients report.
        clock: stamps what people and clients ask for.
        keep_mode: told of each mode that a person sets, also of one that is so already.
        fair_share: busy seconds each second that one user may go on using of a service.
        cost_per_call: busy seconds of one call of a user; 0: not known.
        shown: the most workers that an instance of a service has been busy with at once.
    """

    def __init__(
        self,
        control: BreakerControl,
        outlets: Outlets,
        rejected: Callable[[str, str, int], None],
        clock: Clock,
        keep_mode: Keeps | None = None,
        fair_share: Callable[[str], float] = lambda _: 0.0,
        cost_per_call: Callable[[CallKey], float] = lambda _: 0.0,
        shown: Callable[[str], float] = lambda _: 0.0,
    ) -> None:
        self._fair_share = fair_share
        self._cost_per_call = cost_per_call
        self._shown = shown
        self._control = control
        self._events = outlets.events
        self._journal = outlets.journal
        self._keep_state = outlets.keep_state
        self._rejected = rejected
        self._clock = clock
        self._keep_mode = keep_mode
        self._is_kept = True
        self._kept_offset_ns = _offset_ns(clock.now())
        self._changing = threading.Lock()  # one change at a time, until it is announced
        self._lock = threading.Lock()  # the registry; taken after the other, and never for long
        self._announced = control.view()
        self._changed = Signal()
        self._numbers = ReportNumbers()
        self._capacities: Mapping[str, float] = {}
        self._counted_s = self._limits_s = -math.inf
        self._round_s = clock.monotonic()

    def at(self) -> StateVersion:
        """The version that was announced last."""
        return self._announced.state.at

    def mode(self) -> PlatformMode:
        """What the platform does with its entries."""
        return self._announced.state.mode

    def snapshot(self) -> Snapshot:
        """The whole state, as it was announced last."""
        return self._announced.state

    def delta_since(self, base: StateVersion) -> Delta | None:
        """The change from ``base`` to :meth:`at`; ``None`` if it is no version remembered here."""
        return self._announced.delta_since(base)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called after each change of the version; returns what ends that."""
        return self._changed.subscribe(wake)

    def policy(self) -> Policy:
        """The policy that is in force."""
        return self._control.checks.policy

    def follow_policy(
        self, policy: Policy, by: str, now: Instant, before: Policy | None = None
    ) -> None:
        """Go by a policy from now on (:func:`~heatshield_alerts.policy_change.follow_policy`)."""
        with self._changing:
            self._limits_s = now.monotonic_s
            with self._lock:
                changes = follow_policy(self._control, policy, by, now.monotonic_s, before)
            self._tell_all(changes, now)

    def trip(self, request: TripRequest) -> BreakerEntry:
        """Grant an entry for a person, or renew the one that has its key.

        Raises:
            TripRefusedError: when a cap or a hold-down does not allow it, or the policy keeps rules
                from it and the person does not insist.
        """
        asked = asdict(request)
        insists = asked.pop("force")
        user, service, call = (asked.pop(name) for name in ("user", "service", "call"))
        if request.scope is not EntryScope.PATTERN:
            user, service, call = (part and wire_id(part) for part in (user, service, call))
        budget = asked.pop("budget") or self._fair_share(service)
        key = CallKey(DEFAULT_TENANT, user or None, service, call)
        cost = self._cost_per_call(key) if request.scope.for_rules else 0.0  # else of many users
        draft = Draft(key, budget=budget, cost_per_call=cost, **asked)
        line = self.policy().rules.forbids(draft)
        if line and not insists:
            raise TripRefusedError(
                f"the policy keeps rules from this ({line}); a person may insist: --force"
            )
        with self._changing:
            now = self._clock.now()
            with self._lock:
                change = self._control.trip(draft, now.monotonic_s)
            if change.kind is ChangeKind.RENEWED:
                self._is_kept = False  # the person is told that it is held from now on
            self._tell(change, now)
            self._keep_unkept(now)
        if change.kind is ChangeKind.REFUSED or change.entry is None:
            raise TripRefusedError(str(change.reason or change.text))
        return change.entry

    def clear(self, entry_id: str, by: str) -> BreakerEntry | None:
        """Take an entry away for the person ``by``; ``None`` if there is no such entry."""
        with self._changing:
            now = self._clock.now()
            with self._lock:
                change = self._control.clear(entry_id, by, now.monotonic_s)
            self._tell(change, now)
        return None if change.kind is ChangeKind.REFUSED else change.entry

    def set_mode(self, mode: PlatformMode, by: str) -> None:
        """Change the mode for the person ``by``."""
        with self._changing:
            now = self._clock.now()
            with self._lock:
                change = self._control.set_mode(mode, by, now.monotonic_s)
            if change:
                self._tell(change, now)
        if self._keep_mode is not None:
            self._keep_mode(mode, by, now)

    def restore(self, kept: KeptControl, now: Instant) -> None:
        """Hold on what the collector held when it ended."""
        with self._changing:
            with self._lock:
                changes = self._control.restore(kept, now)
            self._tell_all(changes, now)
            self._is_kept = False  # also where nothing is held: the new epoch is kept
            self._keep_unkept(now)

    def keep(self) -> None:
        """Keep what is held, as it is at this moment: the process ends."""
        with self._changing:
            self._is_kept = False
            self._keep_unkept(self._clock.now())

    def act(self, decision: Decision, now: Instant, active_users: int) -> Change:
        """Carry out what the policy decided about a firing alert; a cooler user may make room."""
        with self._changing:
            with self._lock:
                left = self._control.make_room(decision, now.monotonic_s, active_users)
                change = self._control.act(decision, now.monotonic_s, active_users)
            self._tell_all([*left, change], now)
        return change

    def tick(self, seen: Seen, now: Instant) -> None:
        """Let time pass: escalate, cool, probe, close, lapse."""
        with self._changing:
            self._round_s = now.monotonic_s
            with self._lock:
                changes = self._control.tick(now.monotonic_s, seen)
            self._tell_all(changes, now)
            if abs(_offset_ns(now) - self._kept_offset_ns) > WALL_JUMP_NS:
                self._is_kept = False
            self._keep_unkept(now)
            self._count_limits(now)

    def _count_limits(self, now: Instant) -> None:
        """Declare the same limits for as many instances as there are now: once in a while, and at
        once where they are twice as many, as after a start.
        """
        age_s = now.monotonic_s - self._limits_s
        limits = self._control.checks.policy.limits
        if not limits or age_s < LOOK_S:
            return
        with self._lock:
            if age_s < COUNT_LIMITS_S and not has_grown(self._control, now.monotonic_s):
                return
            counted = self._control.declare(limits, "heatshield", now.monotonic_s)
        self._limits_s = now.monotonic_s
        if counted is not None:
            self._tell(replace(counted, is_recorded=False), now)

    def lapse(self, now: Instant) -> None:
        """End what is over; for a round that failed and knows no loads."""
        with self._changing:
            with self._lock:
                changes = self._control.lapse(now.monotonic_s)
            self._tell_all(changes, now)

    def report(self, report: Report) -> ReportAnswer:
        """Take in what a client enforces and refused; it also says that the client lives.

        Returns:
            With the shares of budgets that the client may spend from now on.
        """
        now = self._clock.now()
        if now.monotonic_s - self._round_s > STALLED_S:
            self.lapse(now)
        with self._lock:
            if not self._numbers.is_new(report):
                report = replace(report, rejected=())
            instances = self._control.instances
            known = instances.find(report.service, report.instance, now.monotonic_s)
            arrived = self._control.report(report, now.monotonic_s)
            shares = self._control.deal(report, now.monotonic_s)
            answer = ReportAnswer(self.at(), shares, instances.spread_ms)
        self._show(report.rejected)
        if arrived:
            self._arrived(report.service, report.instance, report.workers, now)
        # Paced instances report four times a second; who listens hears of a version once.
        if report.applied and (known is None or known.applied != report.applied):
            self._publish(
                "applied",
                {
                    "service": report.service,
                    "instance": report.instance,
                    "applied": str(report.applied),
                },
                now,
            )
        return answer

    def count_refused(self, rows: Iterable[Rejections]) -> None:
        """Count calls that gateways were told to refuse: demand, as what services refuse."""
        rows = tuple(rows)
        with self._lock:
            count_refused(self._control.held, rows, self._clock.monotonic())
        self._show(rows)

    def enforced_services(self) -> frozenset[str]:
        """The services of which a live instance has said what it enforces."""
        with self._lock:
            live = self._control.instances.live(self._clock.monotonic())
        return frozenset(row.service for row in live if row.applied is not None)

    def _show(self, rows: Iterable[Rejections]) -> None:
        for row in rows:
            self._rejected(row.service, row.call, row.count)

    def attend(
        self,
        service: str,
        instance: str,
        workers: int | None = None,
        now: Instant | None = None,
        processors: float | None = None,
    ) -> None:
        """An instance sends spans, or charges.

        Args:
            service: its service.
            instance: its id.
            workers: how many it has; ``None`` where it does not say.
            now: the moment of the batch.
            processors: how many it may use; ``None`` where it does not say.
        """
        now = now or self._clock.now()
        with self._lock:
            arrived = self._control.instances.attend(
                service,
                instance,
                now.monotonic_s,
                workers=workers,
                sends_spans=True,
                processors=processors,
            )
        if arrived:
            self._arrived(service, instance, workers, now)

    def instance(self, service: str, instance: str, now: Instant) -> Instance | None:
        """The instance, if it spoke lately; found without a look at the others."""
        with self._lock:
            return self._control.instances.find(service, instance, now.monotonic_s)

    def live(self, now: Instant) -> tuple[Instance, ...]:
        """The instances that spoke lately."""
        with self._lock:
            return self._control.instances.live(now.monotonic_s)

    def count_workers(self, now: Instant) -> Mapping[str, float]:
        """Workers of each service whose instances send spans; up to a quarter of a second old."""
        if now.monotonic_s - self._counted_s >= CAPACITY_AGE_S:
            with self._lock:
                workers = self._control.instances.capacities(now.monotonic_s, self._shown)
            self._capacities, self._counted_s = workers, now.monotonic_s
        return self._capacities

    def capacities(self) -> Mapping[str, float]:
        """The same for one that has no moment of its own."""
        return self.count_workers(self._clock.now())

    def behind(self) -> int:
        """Live instances that have not said that they enforce the state as it is."""
        with self._lock:
            now_s = self._clock.monotonic()
            return len(self._control.instances.behind(self.at(), now_s))

    def not_enforcing(self) -> int:
        """Live instances whose kill switch is thrown."""
        with self._lock:
            return len(self._control.instances.not_enforcing(self._clock.monotonic()))

    def workers_of(self, service: str) -> float | None:
        """Workers of a service as they were counted last; ``None`` if no live instance sends
        spans.

        Looks at no clock: each batch and each round counts them first, at its own moment.
        """
        return self._capacities.get(service)

    def held(self) -> list[tuple[CallKey, str, BreakerEntry]]:
        """(key, state, entry) of every breaker that is not closed."""
        return list(self._announced.held)

    def left_s(self) -> dict[str, float]:
        """Seconds until each entry ends, by its id, unless it is asked for again."""
        with self._lock:
            now_s = self._clock.monotonic()
            return {row.entry.id: row.left_s(now_s) for row in self._control.held}

    def _arrived(self, service: str, instance: str, workers: int | None, now: Instant) -> None:
        said = {"service": service, "instance": instance, "workers": workers}
        self._publish("instance", said, now)

    def _tell_all(self, changes: Sequence[Change], now: Instant) -> None:
        """While no other change is made, so that every listener hears of changes in their order.

        What clients will see is kept before, once for all of them: a restart must not take back
        what was announced. From when an entry is held can wait for the end of the round.
        """
        if any(change.is_visible or change.is_kept for change in changes):
            self._is_kept = False
        if any(change.is_visible for change in changes):
            self._keep_unkept(now)
            with self._lock:
                self._announced = self._control.view()
        for change in changes:
            self._announce(change, now)

    def _keep_unkept(self, now: Instant) -> None:
        if not self._is_kept and self._keep_state is not None:
            with self._lock:
                epoch, held = self._control.at.epoch, self._control.keep(now)
            self._keep_state(epoch, held)
        self._is_kept = True
        self._kept_offset_ns = _offset_ns(now)

    def _tell(self, change: Change, now: Instant) -> None:
        self._tell_all([change], now)

    def _announce(self, change: Change, now: Instant) -> None:
        if change.is_visible:
            self._changed.fire()
        if not change.is_recorded:
            return
        said = change.to_json()
        if change.kind is ChangeKind.MODE:
            self._publish("mode", {"mode": self.mode().value, **said}, now)
        else:
            self._publish("breaker", said, now)
        if change.reason is not None and change.reason.systemic:
            _log.warning("%s asks for an entry too many: %s", change.by, change.text)
        self._journal.write(
            "audit",
            {
                "at_ns": now.epoch_ns,
                "change": change.kind.value,
                "entry_id": change.entry.id if change.entry else "",
                "issuer": change.by,
                "reason": change.text,
                "version": str(change.at),
                "entry": said["entry"] or {},
            },
        )

    def _publish(self, name: str, data: dict[str, Any], now: Instant) -> None:
        self._events.publish(name, {**data, "at_ns": now.epoch_ns})


def _offset_ns(now: Instant) -> int:
    """How far the wall clock is from the one that never goes back."""
    return now.epoch_ns - round(now.monotonic_s * 1e9)
