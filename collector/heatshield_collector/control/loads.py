"""Loads as the API shows them: what detection knows of them, with findings and breakers."""

from collections.abc import Callable, Sequence
from typing import Final

from heatshield.call_key import CallKey
from heatshield.clock import Clock
from heatshield.names import COLLECTOR_SERVICE
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.held_entries import entries_about
from heatshield_collector.detect import Detection, Durations, Finding, Load
from heatshield_collector.ports import (
    CallLoad,
    CostName,
    GroupName,
    HotUsersView,
    UserClass,
    UserLoad,
    WindowName,
)

__all__ = ["LoadAnswers"]

GRAVEST_FIRST: Final[tuple[UserClass, ...]] = ("harmful", "budget", "hot", "heavy")

OWN_MOST: Final = 100
"""Rows that the collector's own calls may have: it has some 20 routes."""


class LoadAnswers:
    """Implements :class:`heatshield_collector.ports.LoadReader`.

    Args:
        detection: has the loads.
        durations: has quantiles by call.
        breakers: say which users are cut.
        findings: what detection said at the last round.
        clock: where the time comes from.
        done: what is done about a user on a call.
    """

    def __init__(
        self,
        detection: Detection,
        durations: Durations,
        breakers: Breakers,
        findings: Callable[[], Sequence[Finding]],
        clock: Clock,
        done: Callable[[CallKey], str] = lambda _key: "",
    ) -> None:
        self._detection = detection
        self._durations = durations
        self._breakers = breakers
        self._findings = findings
        self._clock = clock
        self._done = done

    def hot_users(
        self,
        cost: CostName,
        window: WindowName,
        limit: int,
        by: GroupName,
        *,
        own: bool = False,
    ) -> HotUsersView:
        """The ``limit`` users with the highest load, on a call each or over all their calls."""
        now_s, at_ns = self._clock.now()
        most = limit if own else limit + OWN_MOST
        loads = self._detection.loads.top(cost, window, most, now_s, by=by)
        loads = [one for one in loads if own or one.key.service != COLLECTOR_SERVICE][:limit]
        total = self._detection.loads.total(cost, window, now_s)
        capacity = sum(
            workers
            for service, workers in self._breakers.capacities().items()
            if own or service != COLLECTOR_SERVICE
        )
        row = self._on_a_call if by == "call" else self._over_all_calls
        users = [row(one, cost, total, now_s) for one in loads]
        return HotUsersView(cost, window, at_ns, capacity, users)

    def _on_a_call(self, load: Load, cost: CostName, total: float, now_s: float) -> UserLoad:
        key = load.key
        whole = self._detection.capacity_of(key.service) if cost == "busy" else total
        held = (entry for _, _, entry in self._breakers.held())
        cut = next(entries_about(key, held), None)
        return UserLoad(
            user=key.user,
            service=key.service,
            call=key.call,
            load=load.load,
            lower=load.lower,
            upper=load.upper,
            share=load.lower / whole if whole else 0.0,
            baseline=self._detection.loads.baseline_of(key, now_s) if cost == "busy" else None,
            klass=self._class(lambda found: found == key),
            breaker=None if cut is None else cut.id,
            trace_id=next(iter(self._detection.traces_of(key)), None),
            done=self._done(key),
        )

    def _over_all_calls(self, load: Load, cost: CostName, total: float, now_s: float) -> UserLoad:  # noqa: ARG002 - as above
        capacity = sum(self._breakers.capacities().values())
        whole = capacity if cost == "busy" else total
        return UserLoad(
            user=load.key.user,
            service="",
            call="",
            load=load.load,
            lower=load.lower,
            upper=load.upper,
            share=load.lower / whole if whole else 0.0,
            baseline=None,
            klass=self._class(lambda found: found.user == load.key.user),
            breaker=None,
            trace_id=None,
        )

    def _class(self, matches: Callable[[CallKey], bool]) -> UserClass | None:
        """What the last round found of a user; the gravest."""
        classes = {one.klass for one in self._findings() if matches(one.key)}
        return next((klass for klass in GRAVEST_FIRST if klass in classes), None)

    def calls(self, window: WindowName, limit: int) -> Sequence[CallLoad]:
        """The ``limit`` calls with the highest busy load."""
        now_s = self._clock.monotonic()
        rows = []
        for service, call, loads in self._detection.loads.calls(window, limit, now_s):
            p50, p99 = self._durations.quantiles(service, call)
            rows.append(
                CallLoad(
                    service=service,
                    call=call,
                    rate=loads["calls"],
                    errors_per_s=loads["errors"],
                    busy=loads["busy"],
                    elements=loads["elements"],
                    p50_ms=p50,
                    p99_ms=p99,
                )
            )
        return rows
