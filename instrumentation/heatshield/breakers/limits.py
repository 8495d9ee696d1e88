"""Declared limits at one instance: what each user, call or tenant has spent of its share.

Requests are counted as they come. Busy seconds, elements and bytes are known when a call has ended:
they are spent then, and the next calls wait until they are paid for. No call asks anybody: the
collector deals each instance a share of every limit by what comes there, in answer to reports.

Pure; the table holds its lock around each call. Memory is bounded: the keys that were silent
longest are forgotten, which gives each of them one burst at most.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from heatshield.breaker_report import Offered
from heatshield.breakers.meter import Meter
from heatshield.declared_limit import DeclaredLimit, LimitUnit

__all__ = ["MAX_KEYS", "Exceeded", "Limits"]

MAX_KEYS: Final = 20_000
"""Keys whose spending is remembered."""

REPORTED_PART: Final = 0.25
"""A key is reported from this part of an equal share on; what stays below needs no dealing."""


class Exceeded(NamedTuple):
    """A call that a limit does not let through."""

    limit: DeclaredLimit
    retry_after_s: float


class _Spending:
    """What one key has spent here."""

    __slots__ = ("limit", "meter", "offered", "until")

    def __init__(self, limit: DeclaredLimit) -> None:
        self.limit = limit
        self.meter = Meter(limit.rate_per_s / limit.instances)
        self.offered = 0.0
        self.until = float("inf")  # when the dealt share ends

    @property
    def burst(self) -> float:
        """Units that may be spent at once, after a pause.

        A user who keeps the limit sends a random part of the calls to each instance, and is not to
        be refused for that: four standard deviations above a second's worth are let through. Of
        what is spent afterwards, a call may cost a second's worth of the whole limit.
        """
        limit, rate = self.limit, self.meter.rate
        declared = limit.burst * rate / limit.rate_per_s
        if limit.unit is LimitUnit.REQUESTS:
            return declared + rate + 4 * math.sqrt(rate) + 2
        return declared + limit.rate_per_s


class Limits:
    """The limits that are about one service.

    Args:
        limits: all that are declared.
        service: of this process.
    """

    def __init__(self, limits: Iterable[DeclaredLimit], service: str) -> None:
        self._limits = tuple(one for one in limits if one.service in ("", service))
        self._service = service
        self._keys: OrderedDict[str, _Spending] = OrderedDict()
        self.post_paid = any(one.unit is not LimitUnit.REQUESTS for one in self._limits)

    def __bool__(self) -> bool:
        return bool(self._limits)

    def replace(self, limits: Iterable[DeclaredLimit]) -> "Limits":
        """The same with other limits; what keys of limits that stay have spent stays spent."""
        changed = Limits(limits, self._service)
        kept = set(changed._limits)
        for name, spending in self._keys.items():
            if spending.limit in kept:
                changed._keys[name] = spending
        return changed

    def decide(self, user: str | None, call: str, now: float) -> Exceeded | None:
        """Count a call that comes now, unless a limit does not let it through.

        Args:
            user: the acting user, if one is known.
            call: the operation.
            now: monotonic seconds.
        """
        found: list[_Spending] = []
        for limit in self._limits:
            key = limit.key(user, call)
            if key is None:
                continue
            spending = self._of(limit, key, now)
            own = float(limit.unit is LimitUnit.REQUESTS)  # what the call itself is known to spend
            spending.offered += own
            delay_s = spending.meter.delay_s(now, spending.burst - own)
            if delay_s > 0:
                return Exceeded(limit, delay_s)
            found.append(spending)
        for spending in found:
            if spending.limit.unit is LimitUnit.REQUESTS:
                spending.meter.spend(1.0, now)
        return None

    def spent(
        self, user: str | None, call: str, amounts: Mapping[LimitUnit, float], now: float
    ) -> None:
        """A call has ended, and has cost so much."""
        for limit in self._limits:
            amount = amounts.get(limit.unit, 0.0)
            key = limit.key(user, call) if amount > 0 else None
            if key is not None:
                spending = self._of(limit, key, now)
                spending.offered += amount
                spending.meter.spend(amount, now)

    def left(self, limit: DeclaredLimit, user: str | None, call: str, now: float) -> float:
        """Units of a limit that may be spent here at once."""
        spending = self._keys.get(limit.key(user, call) or "")
        return 0.0 if spending is None else spending.meter.left(now, spending.burst)

    def deal(self, shares: Mapping[str, float], until: float, now: float) -> None:
        """Spend the dealt shares from now on, ``until`` when at most."""
        for name, share in shares.items():
            spending = self._keys.get(name)
            if spending is not None:
                spending.meter.change_rate(spending.limit.rate_per_s * share, now)
                spending.until = until

    def offered(self, seconds: float) -> list[Offered]:
        """What came of the keys that need a share, per second of the last so many; counts anew."""
        rows = []
        for name, spending in self._keys.items():
            equal = spending.limit.rate_per_s / spending.limit.instances
            per_s = spending.offered / seconds
            is_dealt = spending.until < float("inf")
            if per_s > equal * REPORTED_PART or (is_dealt and spending.offered):
                rows.append(Offered(name, per_s))
            spending.offered = 0.0
        return sorted(rows, key=lambda row: (-row.per_s, row.budget))

    def _of(self, limit: DeclaredLimit, key: str, now: float) -> _Spending:
        spending = self._keys.get(key)
        if spending is None or spending.limit is not limit:
            spending = self._keys[key] = _Spending(limit)
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        if now >= spending.until:
            equal = limit.rate_per_s / limit.instances
            spending.meter.change_rate(min(spending.meter.rate, equal), now)
            spending.until = float("inf")
        return spending
