"""Gateways are answered as a service of that name would answer, and what they refuse counts."""

from dataclasses import replace

import pytest
from control_platform import Platform

from heatshield.clock import ManualClock
from heatshield.contract import (
    BreakerEntry,
    BreakerMode,
    DeclaredLimit,
    EntryScope,
    PlatformMode,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_collector.gateways import Checks, Question
from heatshield_collector.gateways.checks import MAX_SERVICES
from heatshield_collector.ports import TripRequest

CALL = "POST /users/{id}/stickers"


def tripped(platform, user="hot", service="shop", call=CALL, **fields):
    return platform.breakers.trip(TripRequest(user, service, call, issuer="human:ana", **fields))


def asked(checks, user="hot", service="shop", call=CALL):
    return checks.refusal(Question(service, user, call))


def by_path(checks, method, path, user="hot", service="shop"):
    return checks.refusal(Question(service, user, method=method, path=path))


@pytest.fixture
def platform():
    return Platform()


@pytest.fixture
def checks(platform):
    return Checks(platform.breakers, platform.clock)


def test_the_tripped_user_s_call_is_refused_and_no_other(platform, checks):
    assert asked(checks) is None
    entry = tripped(platform)
    refusal = asked(checks)
    assert refusal.status == 503
    assert refusal.headers["heatshield-breaker"] == entry.id
    assert 1 <= int(refusal.headers["retry-after"]) <= 10
    assert asked(checks, user="other") is None
    assert asked(checks, user=None) is None
    assert asked(checks, call="POST /other") is None
    assert asked(checks, service="other") is None
    assert asked(checks, service="") is None


def test_a_cleared_entry_refuses_nothing_from_the_next_question_on(platform, checks):
    entry = tripped(platform)
    assert asked(checks) is not None
    platform.breakers.clear(entry.id, "ana")
    assert asked(checks) is None


def test_a_lease_is_renewed_by_the_question(platform, checks):
    """Unlike a service, the collector can't be cut off from itself."""
    tripped(platform, lease_ms=1_000)
    platform.clock.advance(3_600)
    assert asked(checks) is not None


def test_shadow_refuses_nothing_and_a_change_of_mode_is_followed(platform, checks):
    tripped(platform)
    platform.breakers.set_mode(PlatformMode.SHADOW, "human:ana")
    assert asked(checks) is None
    platform.breakers.set_mode(PlatformMode.PROTECT, "human:ana")
    assert asked(checks) is not None


def test_a_flag_refuses_nothing_and_a_trickle_what_is_beyond_its_rate(platform, checks):
    tripped(platform, user="flagged", mode=BreakerMode.FLAG)
    tripped(platform, user="slow", mode=BreakerMode.TRICKLE, rate_per_s=1.0)
    assert asked(checks, user="flagged") is None
    assert [asked(checks, user="slow") is None for _ in range(3)] == [True, False, False]
    platform.clock.advance(1)
    assert asked(checks, user="slow") is None


def test_what_gateways_refuse_is_demand_and_shown(platform, checks):
    """Or else an entry would close while its user still comes, and open again."""
    entry = tripped(platform)
    for _ in range(7):
        assert asked(checks) is not None
    checks.count()
    checks.count()
    assert platform.rejected == [("shop", CALL, 7)]
    (held,) = platform.breakers._control.held
    assert held.demand.rejected_per_s(platform.clock.monotonic()) == pytest.approx(7.0)
    asked(checks)
    platform.breakers.clear(entry.id, "ana")
    asked(checks)  # the service has no entry any more; what it refused counts all the same
    assert platform.rejected[1:] == [("shop", CALL, 1)]


def test_gateways_are_no_instances_of_the_service(platform, checks):
    """They compute nothing, so they must not raise its capacity, nor seem to be behind."""
    tripped(platform, service="go")
    asked(checks, service="go")
    checks.count()
    now = platform.clock.now()
    assert {row.service for row in platform.breakers.live(now)} == {"shop"}
    assert "go" not in platform.breakers.capacities()


def test_the_thread_counts_each_second_and_at_the_end(platform, checks):
    tripped(platform)
    asked(checks)
    checks.start()
    checks.stop()
    assert platform.rejected == [("shop", CALL, 1)]
    checks.stop()


def test_a_request_is_told_by_method_and_path(platform, checks):
    tripped(platform)
    assert by_path(checks, "POST", "/users/7/stickers?x=1") is not None
    assert by_path(checks, "GET", "/users/7/stickers") is None
    assert by_path(checks, "POST", "/users/7") is None
    assert by_path(checks, "", "") is None


def test_a_route_that_says_more_is_another_call():
    """A service that has ``/users/me`` does not send it to ``/users/{id}``."""
    platform = Platform()
    known = {"shop": ["GET /users/me", "GET /users/{id}"]}
    checks = Checks(platform.breakers, platform.clock, lambda service: known.get(service, ()))
    tripped(platform, call="GET /users/{id}")
    assert by_path(checks, "GET", "/users/7") is not None
    assert by_path(checks, "GET", "/users/me") is None


def test_a_route_that_says_as_much_in_other_words_is_the_same_call():
    """As another version of the service has it, or the gateway's own spans."""
    platform = Platform()
    checks = Checks(platform.breakers, platform.clock, lambda _: ["POST /users/{zz}/stickers"])
    tripped(platform)
    assert by_path(checks, "POST", "/users/7/stickers") is not None


def test_many_services_and_users_are_told_apart(platform, checks):
    for number in range(19):
        tripped(platform, user=f"u-{number}", service=f"s-{number % 5}")
    for number in range(19):
        for service in range(6):
            refused = asked(checks, user=f"u-{number}", service=f"s-{service}") is not None
            assert refused == (number % 5 == service)


@pytest.mark.parametrize("name", ["Юрий", "u" * 500, "a\x00b", "unknown"])
def test_odd_names_are_matched_as_services_match_them(platform, checks, name):
    tripped(platform, service=name, call=f"GET /{name}")
    assert asked(checks, service=name, call=f"GET /{name}") is not None


def test_a_mistake_of_ours_refuses_nobody(platform):
    def fails(_service):
        raise RuntimeError("of ours")

    checks = Checks(platform.breakers, platform.clock, fails)
    tripped(platform)
    assert by_path(checks, "POST", "/users/7/stickers") is None


def test_a_rule_s_entry_is_enforced_as_a_person_s(platform, checks):
    platform.warm()
    platform.burn(4)
    assert asked(checks, user="hot", service="shop", call="POST /p") is not None


# -- beyond one user's one call ----------------------------------------------------------------


class Granted:
    """A breaker state that a test sets."""

    def __init__(self, *entries, limits=(), enforced=()):
        self.enforced, self.refused = frozenset(enforced), []
        self.state = Snapshot(StateVersion(1, 0), PlatformMode.PROTECT)
        self.grant(*entries, limits=limits)

    def grant(self, *entries, limits=()):
        at = StateVersion(1, self.state.at.version + 1)
        self.state = Snapshot(at, PlatformMode.PROTECT, entries, tuple(limits))

    def at(self):
        return self.state.at

    def snapshot(self):
        return self.state

    def enforced_services(self):
        return self.enforced

    def count_refused(self, rows):
        self.refused += rows


def granted_checks(*entries, **more):
    granted, clock = Granted(*entries, **more), ManualClock()
    return granted, clock, Checks(granted, clock)


PACED = BreakerEntry(
    "b-1", "hot", "shop", CALL, BreakerMode.PACE, budget=0.2, cost_per_call=0.1, instances=4
)
LIMIT = DeclaredLimit("burst", LimitPer.USER, LimitUnit.REQUESTS, 2.0, instances=4)


def let_through(checks, clock, seconds, **question):
    """How many of ten questions a second go on, and the last refusal."""
    answers = []
    for _ in range(seconds * 10):
        answers.append(asked(checks, **question))
        clock.advance(0.1)
    return answers.count(None), next(one for one in reversed(answers) if one)


def test_a_paced_user_gets_the_whole_budget_through_and_a_429_for_the_rest():
    """No instance shares it, and a gateway can't wait in line."""
    _, clock, checks = granted_checks(PACED)
    count, refusal = let_through(checks, clock, 20)
    assert count == pytest.approx(40, abs=2)
    assert (refusal.status, refusal.entry_id) == (429, "b-1")


def test_pacing_is_left_to_instances_that_enforce_and_refusing_is_not():
    """They can have a call wait for its turn."""
    refused = replace(PACED, id="b-2", user="cut", mode=BreakerMode.REJECT)
    granted, _, checks = granted_checks(PACED, refused, limits=[LIMIT], enforced=["shop"])
    assert [asked(checks) for _ in range(20)] == [None] * 20
    assert asked(checks, user="cut").status == 503
    granted.enforced = frozenset()  # the last of them is gone
    checks.count()
    assert [one is None for one in (asked(checks), asked(checks))] == [True, False]
    granted.enforced = frozenset({"shop"})
    checks.count()
    assert asked(checks) is None
    assert [row.id for row in granted.refused] == ["b-2", "b-1"]


def test_a_declared_limit_counts_every_service_s_calls_by_itself():
    _, clock, checks = granted_checks(limits=[LIMIT])
    for service in ("shop", "go"):
        count, refusal = let_through(checks, clock, 10, service=service)
        assert count == pytest.approx(2 * 10 + 10, abs=2)  # and a burst, as Limits has it
        assert refusal.status == 429
        assert refusal.headers["ratelimit"].startswith('"burst";r=0;t=')
        assert "ratelimit-policy" in refusal.headers
    assert asked(checks, user="other") is None
    assert asked(checks, user=None) is None


def test_a_limit_on_a_call_is_told_by_its_path():
    limit = replace(LIMIT, per=LimitPer.USER_CALL, call=CALL, rate_per_s=1.0)
    _, _, checks = granted_checks(limits=[limit])
    said = [by_path(checks, "POST", f"/users/{number}/stickers") for number in range(20)]
    assert said[0] is None
    assert said[-1].entry_id == "burst"
    assert by_path(checks, "POST", "/users/7") is None


def test_entries_of_any_scope_are_enforced():
    def entry(name, user, call, scope):
        return BreakerEntry(name, user, "shop", call, scope=scope)

    _, _, checks = granted_checks(
        entry("b-1", "hot", "", EntryScope.USER_SERVICE),
        entry("b-2", "", "GET /all/{id}", EntryScope.TENANT_CALL),
        entry("b-3", "bot-*", "GET /find*", EntryScope.PATTERN),
    )
    assert by_path(checks, "GET", "/whatever").entry_id == "b-1"
    assert by_path(checks, "GET", "/all/7", user=None).entry_id == "b-2"
    assert by_path(checks, "GET", "/all/7", user="u").entry_id == "b-2"
    assert by_path(checks, "GET", "/find/x", user="bot-7").entry_id == "b-3"
    assert by_path(checks, "GET", "/other", user="bot-7") is None
    assert by_path(checks, "GET", "/other", user=None) is None


def test_probes_go_to_the_instance_that_is_to_let_them_through():
    """A gateway that refused them would keep a half-open breaker from ever seeing a call."""
    half_open = replace(PACED, mode=BreakerMode.REJECT, prober="i-1", probe_per_s=1.0)
    granted, clock, checks = granted_checks(half_open, enforced=["shop"])
    assert [asked(checks) for _ in range(5)] == [None] * 5
    granted.enforced = frozenset()
    granted.grant(replace(half_open, prober=""))  # nobody is there that could
    checks.count()
    count, refusal = let_through(checks, clock, 10)
    assert count == pytest.approx(10, abs=1)
    assert refusal.status == 503


def test_an_instance_that_says_what_it_enforces_enforces(platform):
    assert platform.breakers.enforced_services() == frozenset()
    platform.breakers.report(Report("shop", "i-1", 4, platform.breakers.at()))
    assert platform.breakers.enforced_services() == {"shop"}
    platform.clock.advance(60)
    assert platform.breakers.enforced_services() == frozenset()


def test_services_that_no_limit_and_no_entry_is_about_take_up_nothing():
    granted, _, checks = granted_checks(replace(PACED, mode=BreakerMode.REJECT), limits=[LIMIT])
    for number in range(MAX_SERVICES + 50):
        assert asked(checks, service=f"s-{number}") is None
    assert len(checks._held.tables) == MAX_SERVICES
    assert asked(checks) is not None
    granted.grant()
    assert asked(checks) is None
    assert checks._held.tables == {}
