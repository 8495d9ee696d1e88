"""Declared limits at one instance: what each user, call or tenant has spent of its share.

Requests are counted as they come. Busy seconds, elements and bytes are known when a call has ended:
they are spent then, and the next calls wait until they are paid for. No call asks anybody: the
collector deals each instance a share of every limit by what comes there, in answer to reports.

A key goes through these::

    no share    an equal part is spent; what comes is told from REPORTED_PART of that on
    dealt       the share is spent, for SHARE_S; what comes is told, also that nothing does
    ended       for as long again the smaller of the share and an equal part; then as without one

Pure; the table holds its lock around each call. Memory is bounded: the keys that were silent
longest are forgotten, which gives each of them one burst at most.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from heatshield.breaker_report import REPORTED_PART, SHARE_S, Offered
from heatshield.breakers.meter import Meter
from heatshield.declared_limit import DeclaredLimit, LimitUnit

__all__ = ["MAX_KEYS", "Exceeded", "Limits"]

MAX_KEYS: Final = 20_000
"""Keys whose spending is remembered."""

MAX_CALLS: Final = 1_000
"""Operations for which it is remembered which limits are about them."""

NOTICED_S: Final = 1.0
"""Seconds over which it is seen what comes of a key: calls come one by one."""

FORGOTTEN_PART: Final = 0.1
"""Of what is reported: where less comes, a key that was dealt a share is reported no longer."""

COUNTED_CALLS: Final = 64
"""Calls whose mean cost stands for that of one that is refused."""


class Exceeded(NamedTuple):
    """A call that a limit does not let through."""

    limit: DeclaredLimit
    retry_after_s: float


class _Spending:
    """What one key has spent here."""

    __slots__ = (
        "burst", "calls", "cost", "equal", "limit", "meter", "noticed", "offered", "own", "share",
        "until",
    )  # fmt: skip

    def __init__(self, limit: DeclaredLimit) -> None:
        self.limit = limit
        self.equal = limit.rate_per_s / limit.instances
        self.burst = self._burst()
        self.own = 1.0 if limit.unit is LimitUnit.REQUESTS else 0.0  # the rest is not known yet
        self.meter = Meter(self.equal)
        self.offered = self.noticed = 0.0
        self.share = 0.0  # as it was dealt; 0: none is held
        self.until = math.inf  # when that ends
        self.calls = self.cost = 0.0  # of those that ran lately

    def _burst(self) -> float:
        """Units that may be spent at once, after a pause.

        A user who keeps the limit sends a random part of the calls to each instance, and is not to
        be refused for that: four standard deviations above a second's worth are let through. Of
        what is spent afterwards, a call may cost a second's worth of the whole limit.
        """
        limit, equal = self.limit, self.equal
        declared = limit.burst / limit.instances
        if limit.unit is LimitUnit.REQUESTS:
            return declared + equal + 4 * math.sqrt(equal) + 2
        return declared + limit.rate_per_s

    def follow(self, limit: DeclaredLimit, now: float) -> None:
        """Go on with a limit that has changed; what was spent stays spent.

        What might be spent at once is less where there are more instances by now, and a user who
        has done so is not to be refused all for that.
        """
        self.limit = limit
        self.equal = limit.rate_per_s / limit.instances
        self.burst = self._burst()
        rate = limit.rate_per_s * self.share if self.share else self.equal
        self.meter.change_rate(rate, now)
        if limit.unit is LimitUnit.REQUESTS:
            self.meter.paid_at = min(self.meter.paid_at, now + self.burst / self.meter.rate)

    def look_at(self, now: float) -> None:
        """Let a share that has ended end."""
        if now >= self.until + SHARE_S:
            self.share, self.until = 0.0, math.inf
            self.meter.change_rate(self.equal, now)
        elif now >= self.until:
            self.meter.change_rate(min(self.meter.rate, self.equal), now)

    def retry_after_s(self, delay_s: float) -> float:
        """Seconds until another try makes sense: a share of nearly nothing is dealt anew soon."""
        return delay_s * min(1.0, self.meter.rate / self.equal)

    def refuse(self) -> None:
        """A call is refused whose cost will not be known."""
        if self.calls:
            self.offered += self.cost / self.calls

    def admit(self) -> None:
        """A call is let through whose cost will be known."""
        self.calls += 1
        if self.calls > COUNTED_CALLS:
            self.calls, self.cost = self.calls / 2, self.cost / 2


class Limits:
    """The limits that are about one service.

    Args:
        limits: all that are declared.
        service: of this process.
    """

    def __init__(self, limits: Iterable[DeclaredLimit], service: str) -> None:
        self._limits = tuple(one for one in limits if one.service in ("", service))
        self._service = service
        self._about: dict[str, tuple[DeclaredLimit, ...]] = {}
        self._keys: OrderedDict[str, _Spending] = OrderedDict()
        self._told: dict[str, _Spending] = {}  # of which something came lately
        self._now = 0.0
        self.post_paid = any(one.unit is not LimitUnit.REQUESTS for one in self._limits)

    def __bool__(self) -> bool:
        return bool(self._limits)

    def replace(self, limits: Iterable[DeclaredLimit]) -> "Limits":
        """The same with other limits; what keys of limits that stay have spent stays spent.

        A limit stays if it counts the same calls in the same unit; its rate may be another.
        """
        changed = Limits(limits, self._service)
        changed._now = self._now
        stay = {_counted(one): one for one in changed._limits}
        for name, spending in self._keys.items():
            limit = stay.get(_counted(spending.limit))
            if limit is not None:
                spending.follow(limit, self._now)
                changed._keys[name] = spending
        told = (name for name in self._told if name in changed._keys)
        changed._told = {name: changed._keys[name] for name in told}
        return changed

    def decide(
        self, user: str | None, call: str, now: float, counted: AbstractSet[str] = frozenset()
    ) -> Exceeded | None:
        """Count a call that comes now, unless a limit does not let it through.

        Args:
            user: the acting user, if one is known.
            call: the operation.
            now: monotonic seconds.
            counted: keys that have counted the request which the call is, or is made in. They are
                not asked again; those that count it now are added, where it is no frozen set.
        """
        exceeded: Exceeded | None = None
        found: list[_Spending] = []
        keys: list[str] = []
        for limit in self._about_call(call):
            key = limit.key(user, call)
            if key is None or key in counted:
                continue
            keys.append(key)
            spending = self._of(limit, key, now)
            own = spending.own
            spending.offered += own
            delay_s = spending.meter.delay_s(now, spending.burst - own)
            if delay_s:
                delay_s = spending.retry_after_s(delay_s)
                if exceeded is None or delay_s > exceeded.retry_after_s:
                    exceeded = Exceeded(limit, delay_s)
            found.append(spending)
        for spending in found:
            if spending.own:
                if exceeded is None:
                    spending.meter.spend(1.0, now)
            elif exceeded is None:
                spending.admit()
            else:
                spending.refuse()
        if exceeded is None and isinstance(counted, set):
            counted.update(keys)
        return exceeded

    def spent(
        self, user: str | None, call: str, amounts: Mapping[LimitUnit, float], now: float
    ) -> None:
        """A call has ended, and has cost so much."""
        for limit in self._about_call(call):
            amount = amounts.get(limit.unit, 0.0)
            key = limit.key(user, call) if amount > 0 else None
            if key is not None:
                spending = self._of(limit, key, now)
                spending.offered += amount
                spending.cost += amount
                spending.meter.spend(amount, now)

    def deal(self, shares: Mapping[str, float], until: float, now: float) -> None:
        """Spend the dealt shares from now on, ``until`` when at most."""
        self._now = now
        for name, share in shares.items():
            spending = self._keys.get(name)
            if spending is not None:
                spending.share, spending.until = share, until
                spending.meter.change_rate(spending.limit.rate_per_s * share, now)

    def offered(self, seconds: float) -> list[Offered]:
        """What came of the keys that need a share, per second of the last so many; counts anew."""
        rows = []
        part = 1 - math.exp(-seconds / NOTICED_S)
        for name, spending in list(self._told.items()):
            per_s = spending.offered / seconds
            spending.offered = 0.0
            spending.noticed += part * (per_s - spending.noticed)
            least = spending.equal * REPORTED_PART
            held = self._now < spending.until + SHARE_S and spending.share
            if spending.noticed > least * (FORGOTTEN_PART if held else 1.0):
                offered = Offered(name, spending.noticed, spending.share)
                rows.append((spending.noticed / spending.equal, offered))
            elif spending.noticed < least * FORGOTTEN_PART:
                del self._told[name]
        rows.sort(key=lambda row: (-row[0], row[1].budget))
        return [row for _, row in rows]

    def forget_offered(self) -> None:
        """In a child process: it has its own share to be dealt, by what comes to it."""
        for spending in self._keys.values():
            spending.offered = spending.noticed = spending.share = 0.0
            spending.until = math.inf
            spending.meter.change_rate(spending.equal, self._now)
        self._told.clear()

    def _about_call(self, call: str) -> tuple[DeclaredLimit, ...]:
        """The limits that are about an operation."""
        found = self._about.get(call)
        if found is None:
            if len(self._about) >= MAX_CALLS:
                self._about.clear()
            found = tuple(one for one in self._limits if one.call in ("", call))
            self._about[call] = found
        return found

    def _of(self, limit: DeclaredLimit, key: str, now: float) -> _Spending:
        self._now = now
        spending = self._keys.get(key)
        if spending is None:
            spending = self._keys[key] = _Spending(limit)
            if len(self._keys) > MAX_KEYS:
                gone, _ = self._keys.popitem(last=False)
                self._told.pop(gone, None)
        else:
            self._keys.move_to_end(key)
        self._told[key] = spending
        if now >= spending.until:
            spending.look_at(now)
        return spending


def _counted(limit: DeclaredLimit) -> tuple[str, ...]:
    """What a limit counts, whatever it lets through."""
    return (limit.id, limit.per, limit.unit, limit.service, limit.call, limit.user)
