"""Loads as the API shows them: what detection knows, with what breakers and rules say of it."""

from collections.abc import Callable, Sequence

from heatshield.clock import Clock
from heatshield_collector.api.parts import CallLoad, CostName, HotUsersView, UserLoad, WindowName
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.detect import Detector, Durations, Finding

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

    def hot_users(self, cost: CostName, window: WindowName, limit: int) -> HotUsersView:
        """The ``limit`` users with the highest load."""
        now_s = self._clock.monotonic()
        # Hot goes over heavy where a user is both.
        classes = {
            one.key: one.klass for one in sorted(self._findings(), key=lambda f: f.klass != "heavy")
        }
        cut = {key: entry.id for key, _, entry in self._breakers.held()}
        live = self._breakers.live()
        total = self._detector.total(cost, window, now_s)
        users = []
        for key, load, lower, upper in self._detector.top(cost, window, limit, now_s):
            whole = self._detector.capacity_of(key.service) if cost == "busy" else total
            users.append(
                UserLoad(
                    user=key.user,
                    service=key.service,
                    call=key.call,
                    load=load,
                    lower=lower,
                    upper=upper,
                    share=lower / whole if whole else 0.0,
                    baseline=self._detector.baseline_of(key, now_s) if cost == "busy" else None,
                    klass=classes.get(key),
                    breaker=cut.get((key.user, key.service, key.call)),
                    trace_id=next(iter(self._detector.traces_of(key)), None),
                )
            )
        capacity = float(sum(instance.workers for instance in live))
        return HotUsersView(cost, window, self._clock.time_ns(), capacity, users)

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
