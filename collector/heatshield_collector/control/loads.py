"""Loads as the API shows them: what detection knows, with what breakers and rules say of it."""

from collections.abc import Callable, Sequence

from heatshield.clock import Clock
from heatshield_collector.api.parts import (
    CallLoad,
    CostName,
    GroupName,
    HotUsersView,
    UserLoad,
    WindowName,
)
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.detect import (
    Detector,
    Durations,
    Finding,
    FindingClass,
    Key,
    Load,
)

__all__ = ["Loads"]


class Loads:
    """Implements :class:`heatshield_collector.api.parts.LoadReader`.

    Args:
        detector: has the loads.
        durations: has quantiles by call.
        breakers: say who is cut.
        findings: what detection said at the last round.
        clock: where the time comes from.
    """

    def __init__(
        self,
        detector: Detector,
        durations: Durations,
        breakers: Breakers,
        findings: Callable[[], Sequence[Finding]],
        clock: Clock,
    ) -> None:
        self._detector = detector
        self._durations = durations
        self._breakers = breakers
        self._findings = findings
        self._clock = clock

    def hot_users(
        self, cost: CostName, window: WindowName, limit: int, by: GroupName
    ) -> HotUsersView:
        """The ``limit`` users with the highest load, on a call each or over all their calls."""
        now_s = self._clock.monotonic()
        loads = self._detector.top(cost, window, limit, now_s, by=by)
        total = self._detector.total(cost, window, now_s)
        capacity = sum(self._breakers.capacities().values())
        row = self._on_a_call if by == "call" else self._over_all_calls
        users = [row(one, cost, total, now_s) for one in loads]
        return HotUsersView(cost, window, self._clock.time_ns(), capacity, users)

    def _on_a_call(self, load: Load, cost: CostName, total: float, now_s: float) -> UserLoad:
        key = load.key
        whole = self._detector.capacity_of(key.service) if cost == "busy" else total
        cut = {key: entry.id for key, _, entry in self._breakers.held()}
        return UserLoad(
            user=key.user,
            service=key.service,
            call=key.call,
            load=load.load,
            lower=load.lower,
            upper=load.upper,
            share=load.lower / whole if whole else 0.0,
            baseline=self._detector.baseline_of(key, now_s) if cost == "busy" else None,
            klass=self._class(lambda found: found == key),
            breaker=cut.get((key.user, key.service, key.call)),
            trace_id=next(iter(self._detector.traces_of(key)), None),
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

    def _class(self, matches: Callable[[Key], bool]) -> FindingClass | None:
        """What the last round found of a user; hot goes over heavy where he is both."""
        classes = {one.klass for one in self._findings() if matches(one.key)}
        return "hot" if "hot" in classes else "heavy" if classes else None

    def calls(self, window: WindowName, limit: int) -> Sequence[CallLoad]:
        """The ``limit`` calls with the highest busy load."""
        now_s = self._clock.monotonic()
        rows = []
        for service, call, loads in self._detector.calls(window, limit, now_s):
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
