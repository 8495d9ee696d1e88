"""Users over a budget: finds who keeps going beyond a limit that an operator has declared.

Services enforce declared limits themselves, call by call; this tells people of the user who does
not heed that, and of services that do not enforce. A user is over a limit when the *lower bounds*
of what the user did, refused calls among them, are more than the limit allows: over the last minute
with its burst, so that a burst after a pause is no news, and over the last ten seconds, so that
what has ended is none either.

Of the declared limits, those that count one user's calls (``user``, ``user_call``) in requests,
busy seconds or elements are looked at; what no load is kept of (bytes) is not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield.declared_limit import DeclaredLimit, LimitPer, LimitUnit
from heatshield_collector.detect.findings import Finding
from heatshield_collector.detect.loads import Load
from heatshield_collector.detect.protocol import Sources
from heatshield_collector.detect.windows import WINDOWS_S, WindowName
from heatshield_collector.link import Linked

__all__ = ["BUDGET", "OverBudget"]

BUDGET: Final = "budget"

LASTING: Final[WindowName] = "1m"
LATELY: Final[WindowName] = "10s"

WORTH_ADDING: Final = 0.02
"""Part of a limit that a user must do on one call for it to be added up: so few of thousands of
users need a look. What is left out makes a lower bound no less of one."""

COSTS: Final = {
    LimitUnit.REQUESTS: "calls",
    LimitUnit.BUSY: "busy",
    LimitUnit.ELEMENTS: "elements",
}

UNITS: Final = {"calls": "calls", "busy": "busy seconds", "elements": "elements"}

Counted = tuple[str, str, str, str]
"""What a limit counts together: the limit's id, user, service, call (empty: all of them)."""


@dataclass(slots=True)
class _Spent:
    """What one user did of what a limit counts together.

    Attributes:
        limit: the limit.
        most: the load on the call that has the most of it.
        rate: lower bound of all, a second.
    """

    limit: DeclaredLimit
    most: Load
    rate: float = 0.0

    def add(self, load: Load) -> None:
        self.rate += load.lower
        self.most = max(self.most, load, key=lambda one: one.lower)

    @property
    def times(self) -> float:
        """The rate as a multiple of what a minute allows."""
        return self.rate / (self.limit.rate_per_s + self.limit.burst / WINDOWS_S[LASTING])


class OverBudget:
    """Names each user who keeps going beyond a declared limit.

    Args:
        sources: loads, evidence and limits; this detector keeps nothing itself.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def observe(self, linked: Linked, instant: Instant) -> bool:  # noqa: ARG002 - of the protocol
        """Nothing to do: the shared loads have it. Never urgent."""
        return False

    def evaluate(self, instant: Instant) -> list[Finding]:
        """Who is over a limit; of several limits on a call the one that is missed most."""
        limits = [one for one in self._sources.limits() if _is_of_users(one)]
        found: dict[CallKey, tuple[float, Finding]] = {}
        for cost in dict.fromkeys(COSTS[one.unit] for one in limits):
            of_cost = [one for one in limits if COSTS[one.unit] == cost]
            for spent, lately in self._over(of_cost, cost, instant.monotonic_s):
                known = found.get(spent.most.key)
                if known is None or known[0] < spent.times:
                    found[spent.most.key] = spent.times, self._finding(spent, lately, instant)
        return [finding for _, finding in found.values()]

    def _over(
        self, limits: Sequence[DeclaredLimit], cost: str, now_s: float
    ) -> list[tuple[_Spent, float]]:
        """What is over a limit over the last minute, each with the rate of the last ten seconds."""
        spent = self._spent(limits, cost, LASTING, now_s)
        over = {counted: one for counted, one in spent.items() if one.times > 1}
        if not over:
            return []
        lately = self._spent(limits, cost, LATELY, now_s)
        return [
            (one, lately[counted].rate)
            for counted, one in over.items()
            if counted in lately and lately[counted].rate > one.limit.rate_per_s
        ]

    def _spent(
        self, limits: Sequence[DeclaredLimit], cost: str, window: WindowName, now_s: float
    ) -> dict[Counted, _Spent]:
        spent: dict[Counted, _Spent] = {}
        least = WORTH_ADDING * min(one.rate_per_s for one in limits)
        for load in self._sources.loads.surely_over(cost, window, least, now_s):
            for limit, counted in _counted(limits, load.key):
                spent.setdefault(counted, _Spent(limit, load)).add(load)
        return spent

    def _finding(self, spent: _Spent, lately: float, instant: Instant) -> Finding:
        limit, key = spent.limit, spent.most.key
        cost = COSTS[limit.unit]
        what = f"`{key.service} {key.call}`" if limit.per is LimitPer.USER_CALL else key.service
        return Finding(
            klass=BUDGET,
            key=key,
            cost=cost,
            window=LATELY,
            load=lately,
            baseline=self._sources.loads.baseline_of(key, instant.monotonic_s),
            reason=(
                f"{key.user} has asked {what} for {spent.rate:,.3g} {UNITS[cost]} a second over "
                f"the last minute; the limit `{limit.id}` is {limit.rate_per_s:,.3g}"
            ),
            trace_ids=self._sources.evidence.of(key.text),
            figures={"minute_low": spent.rate},
            thresholds={"rate_per_s": limit.rate_per_s, "burst": limit.burst},
        )


def _is_of_users(limit: DeclaredLimit) -> bool:
    return limit.per in (LimitPer.USER, LimitPer.USER_CALL) and limit.unit in COSTS


def _counted(
    limits: Sequence[DeclaredLimit], key: CallKey
) -> Iterator[tuple[DeclaredLimit, Counted]]:
    """What a user's load on a call counts for."""
    if key.user is None:
        return
    for limit in limits:
        if limit.service in ("", key.service) and limit.key(key.user, key.call) is not None:
            call = key.call if limit.per is LimitPer.USER_CALL else ""
            yield limit, (limit.id, key.user, key.service, call)
