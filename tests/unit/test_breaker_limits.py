"""Declared limits at one client: what counts, what is refused, when nothing is."""

import pytest

from heatshield.breakers.decision import Reason
from heatshield.breakers.gate import Gate
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.limits import MAX_KEYS, Limits
from heatshield.breakers.reports import Reports
from heatshield.clock import ManualClock
from heatshield.context.request import Request
from heatshield.contract import (
    DEFAULT_LEASE_MS,
    RAMP_S,
    SHARE_S,
    DeclaredLimit,
    Offered,
    PlatformMode,
    Snapshot,
    StateVersion,
)
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield.rejection import BreakerOpen
from heatshield_alerts.shares import Shares

CALL = "GET /p"


def limit(
    rate: float = 1.0,
    per: LimitPer = LimitPer.USER,
    unit: LimitUnit = LimitUnit.REQUESTS,
    *,
    name: str = "buys",
    call: str = "",
    instances: int = 1,
) -> DeclaredLimit:
    return DeclaredLimit(name, per, unit, rate, service="shop", call=call, instances=instances)


def table(*limits: DeclaredLimit, mode: PlatformMode = PlatformMode.PROTECT) -> BreakerTable:
    made = BreakerTable("shop", chance=lambda: 0.5)
    made.apply(Snapshot(StateVersion(1, 1), mode, (), limits), 0.0)
    return made


def gate_of(held: BreakerTable) -> Gate:
    gate, clock = Gate(), ManualClock()
    held.renewed(StateVersion(1, 1), clock.monotonic())
    gate.install(held, clock)
    return gate


def admitted(held: BreakerTable, calls: int, now: float, user: str = "u") -> int:
    return sum(held.decide(user, CALL, now).allowed for _ in range(calls))


AT_ONCE = 7
"""Of 1 a second: a second's worth, four standard deviations, and two."""


def test_what_is_beyond_is_refused_with_429_and_the_time_of_the_next() -> None:
    held = table(limit())
    assert admitted(held, 100, 0.0) == AT_ONCE
    refused = held.decide("u", CALL, 0.0)
    assert (refused.reason, refused.status) == (Reason.OVER_LIMIT, 429)
    assert refused.limit == limit()
    assert refused.retry_after_s == pytest.approx(1.0)
    assert admitted(held, 100, 3.0) == 3
    assert admitted(held, 100, 0.0, "u-2") == AT_ONCE


def test_in_shadow_it_is_counted_and_nothing_is_refused() -> None:
    held = table(limit(), mode=PlatformMode.SHADOW)
    assert admitted(held, 100, 0.0) == 100
    assert held.would_have_rejected() == {"buys": 100 - AT_ONCE}
    assert held.drain_rejections() == ()


def test_the_local_kill_switch_refuses_nothing() -> None:
    held = table(limit())
    held.enforce = False
    assert admitted(held, 100, 0.0) == 100


def test_without_a_collector_limits_lapse_as_entries_do() -> None:
    held = table(limit(0.001))
    assert admitted(held, 9, 0.0) < 9
    ends_s = DEFAULT_LEASE_MS / 1000
    assert not held.decide("u", CALL, ends_s + RAMP_S / 4).allowed
    assert held.decide("u", CALL, ends_s + RAMP_S * 3 / 4).allowed
    assert admitted(held, 99, ends_s + RAMP_S) == 99


def test_calls_without_a_user_are_counted_where_the_limit_is_no_user_s() -> None:
    held = table(limit())
    assert all(held.decide(None, CALL, 0.0).allowed for _ in range(99))
    held = table(limit(per=LimitPer.CALL))
    assert sum(held.decide(None, CALL, 0.0).allowed for _ in range(99)) == AT_ONCE


def test_a_request_counts_once_however_often_it_is_asked_about() -> None:
    held = table(limit(), limit(per=LimitPer.TENANT, name="all"))
    gate = gate_of(held)
    request = Request(call=CALL)
    request.user = "u"
    for _ in range(100):  # mounts, routers, a user who is named late, guards
        assert gate.refusal(CALL, "u", request) is None
        assert gate.refusal("a.guard", "u", request) is None
    other = Request(call=CALL)
    for _ in range(AT_ONCE - 1):
        assert gate.refusal(CALL, "u", Request(call=CALL)) is None
    assert isinstance(gate.refusal(CALL, "u", other), BreakerOpen)


def test_a_guard_that_a_limit_is_about_counts_each_time() -> None:
    held = table(limit(call="a.guard"))
    gate = gate_of(held)
    request = Request(call=CALL)
    let = [gate.refusal("a.guard", "u", request) is None for _ in range(20)]
    assert sum(let) == AT_ONCE


def test_what_a_call_costs_is_known_when_it_has_ended() -> None:
    held = table(limit(0.5, unit=LimitUnit.BUSY))
    assert held.decide("u", CALL, 0.0).allowed
    held.spent("u", CALL, {LimitUnit.BUSY: 2.0}, 1.0)
    refused = held.decide("u", CALL, 1.0)
    assert not refused.allowed
    assert refused.retry_after_s == pytest.approx(3.0)  # 2 s, less a second's worth of 0.5, at 0.5
    assert held.decide("u", CALL, 4.01).allowed


def test_headers_are_those_of_the_draft() -> None:
    gate = gate_of(table(limit(10.0, instances=4)))
    found = [gate.refusal(CALL, "u") for _ in range(50)][-1]
    assert found is not None
    assert found.headers == {
        "ratelimit-policy": '"buys";q=10;w=1',
        "ratelimit": '"buys";r=0;t=1',
        "retry-after": "1",
        "heatshield-breaker": "buys",
    }


def test_a_changed_rate_keeps_what_was_spent() -> None:
    held = table(limit())
    admitted(held, 100, 0.0)
    held.apply(Snapshot(StateVersion(1, 2), PlatformMode.PROTECT, (), (limit(2.0),)), 0.0)
    assert admitted(held, 100, 0.0) < AT_ONCE
    held.apply(Snapshot(StateVersion(1, 3), PlatformMode.PROTECT, (), ()), 0.0)
    assert admitted(held, 100, 0.0) == 100


def test_a_user_who_spent_at_once_is_not_refused_as_more_instances_come() -> None:
    held = table(limit(100.0))
    assert admitted(held, 999, 0.0) in {141, 142}
    more = limit(100.0, instances=4)
    held.apply(Snapshot(StateVersion(1, 2), PlatformMode.PROTECT, (), (more,)), 0.0)
    assert admitted(held, 999, 0.0) == 0
    assert admitted(held, 999, 1.0) in {24, 25}


def test_an_unchanged_limit_beside_a_new_one_keeps_what_was_spent() -> None:
    held = table(limit())
    admitted(held, 100, 0.0)
    other = limit(9.0, name="other")
    held.apply(Snapshot(StateVersion(1, 2), PlatformMode.PROTECT, (), (limit(), other)), 0.0)
    assert admitted(held, 100, 0.0) == 0


def test_memory_is_bounded_whatever_users_come() -> None:
    limits = Limits([limit()], "shop")
    for number in range(MAX_KEYS + 5_000):
        limits.decide(f"u-{number}", f"GET /{number}", 0.0)
    assert len(limits._keys) == MAX_KEYS
    assert len(limits._told) <= MAX_KEYS
    assert len(limits._about) <= 1_000


def test_a_user_far_below_is_not_told_of_and_one_near_is_until_all_is_quiet() -> None:
    limits = Limits([limit(100.0, instances=2)], "shop")
    limits.decide("rare", CALL, 0.0)
    for _ in range(20):
        limits.decide("often", CALL, 0.0)
    assert [row.budget for row in limits.offered(0.25)] == ["buys\x1foften"]
    limits.deal({"buys\x1foften": 0.9}, SHARE_S, 0.0)
    silent = [limits.offered(0.25) for _ in range(60)]
    assert silent[0][0].share == 0.9
    assert not silent[-1]
    assert not limits._told


def test_a_share_ends_and_an_equal_part_is_spent_again() -> None:
    held = table(limit(10.0, instances=10))
    admitted(held, 50, 0.0)
    held.deal({"buys\x1fu": 0.0}, 0.0, 0.0)
    assert admitted(held, 50, SHARE_S) == 0
    later = 2 * SHARE_S
    assert held.decide("u", CALL, later).retry_after_s <= 1.0
    assert admitted(held, 50, later + 5.0) == pytest.approx(5, abs=1)


class Line:
    """Takes reports."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def request(self, _method: str, _path: str, *, body: bytes, **_more: object) -> None:
        self.bodies.append(body)
        raise TimeoutError


def test_reports_are_counted_and_begin_when_the_limit_does() -> None:
    held = table(limit())
    held.renewed(StateVersion(1, 1), 100.0)
    line = Line()
    reports = Reports(
        line,  # type: ignore[arg-type]
        held,
        service="shop",
        instance=lambda: "i-1",
        workers=1,
        clock=ManualClock(),
    )
    for now in (100.0, 100.25):
        admitted(held, 9, now)
        with pytest.raises(TimeoutError):
            reports.send_due(now)
    assert [b'"turn": %d' % number in body for number, body in enumerate(line.bodies, 1)] == [
        True,
        True,
    ]


def test_a_report_that_is_late_or_comes_twice_deals_nothing() -> None:
    from heatshield.contract import Report

    shares = Shares(0.08, 0.08)
    members = frozenset({"a", "b"})

    def deal(turn: int, per_s: float) -> float | None:
        return shares.deal(Report("s", "a", 1, None, turn=turn), Offered("x", per_s), 10.0,
                           members, 0.0)  # fmt: skip

    assert deal(1, 20.0) == pytest.approx(0.96)
    assert deal(1, 0.0) is None
    assert deal(3, 20.0) is not None
    assert deal(2, 0.0) is None
