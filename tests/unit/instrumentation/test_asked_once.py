"""A request is counted once, however often it is asked for: by mounts, by code that names its user,
by guards within it."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import heatshield
from heatshield.breakers.gate import Gate
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.pacing import Pacer
from heatshield.clock import ManualClock
from heatshield.context.request import Request
from heatshield.contract import (
    BreakerEntry,
    BreakerMode,
    EntryScope,
    PlatformMode,
    Snapshot,
    StateVersion,
)

CALL = "GET /page"
ALICE = {"x-user": "alice"}
PACED = {"mode": BreakerMode.PACE, "budget": 0.1, "cost_per_call": 0.1}
"""One call a second."""


def ask(app, method, path, **more):
    async def once():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


def shop(handler):
    app = FastAPI()
    app.get("/page")(handler)
    return app


def naming():
    heatshield.user("alice")
    return {}


def guarding():
    for _ in range(3):
        with heatshield.guard("stock"):
            pass
    return {}


@pytest.mark.parametrize(
    ("call", "more"),
    [
        (CALL, PACED),
        (CALL, {"mode": BreakerMode.TRICKLE, "rate_per_s": 1.0}),
        ("", {**PACED, "scope": EntryScope.USER_SERVICE}),
    ],
)
def test_a_user_who_is_named_again_by_the_handler_takes_one_turn(service, call, more):
    made = service(user_header="x-user")
    made.trip("alice", call, **more)
    app = shop(naming)
    assert ask(app, "GET", "/page", headers=ALICE).status_code == 200
    assert ask(app, "GET", "/page").status_code in {429, 503}  # named by the handler alone
    made.clock.advance(1.0)
    assert ask(app, "GET", "/page", headers=ALICE).status_code == 200


def test_guards_within_a_paced_users_request_are_part_of_it(service):
    made = service(user_header="x-user")
    made.trip("alice", "", scope=EntryScope.USER_SERVICE, **PACED)
    assert ask(shop(guarding), "GET", "/page", headers=ALICE).status_code == 200


def test_a_guard_that_is_paced_itself_takes_a_turn_each_time(service):
    made = service(user_header="x-user")
    made.trip("alice", "stock", **PACED)
    assert ask(shop(guarding), "GET", "/page", headers=ALICE).status_code == 429


def test_a_mount_and_the_routes_behind_it_take_one_turn(service):
    made = service(user_header="x-user")
    made.trip("alice", "", scope=EntryScope.USER_SERVICE, **PACED)
    inner = Starlette(routes=[Route("/page", lambda _: PlainTextResponse("here"))])

    async def within(scope, receive, send):
        await inner(scope, receive, send)

    app = Starlette(routes=[Mount("/shop", app=within)])
    assert ask(app, "GET", "/shop/page", headers=ALICE).status_code == 200


def test_a_head_request_takes_one_turn(service):
    made = service(user_header="x-user")
    made.trip("alice", "", scope=EntryScope.USER_SERVICE, **PACED)
    app = Starlette(routes=[Route("/page", lambda _: PlainTextResponse("here"))])
    assert ask(app, "HEAD", "/page", headers=ALICE).status_code == 200


def test_a_head_request_that_would_wait_is_refused_where_a_get_is(service):
    made = service(user_header="x-user")
    made.trip("alice", "", scope=EntryScope.USER_SERVICE, **PACED)
    table, app = (
        made.runtime.table,
        Starlette(routes=[Route("/page", lambda _: PlainTextResponse())]),
    )
    assert ask(app, "HEAD", "/page", headers=ALICE).status_code == 200
    made.trip("alice", CALL)
    assert ask(app, "HEAD", "/page", headers=ALICE).status_code == 503
    made.clock.advance(1.0)
    assert table.decide("alice", "GET /other", made.clock.monotonic(), 0.0).allowed  # not taken


def test_a_request_that_was_paced_is_refused_by_the_entry_that_rejects_since():
    gate, table, clock = Gate(), BreakerTable("shop"), ManualClock()
    gate.install(table, clock)
    request = Request(call=CALL, user="alice")
    for version, mode in enumerate((BreakerMode.PACE, BreakerMode.REJECT), 1):
        entry = BreakerEntry("b-1", "alice", "shop", CALL, **{**PACED, "mode": mode})
        at = StateVersion(1, version)
        table.apply(Snapshot(at, PlatformMode.PROTECT, (entry,)), clock.monotonic())
        refusal = gate.refusal(CALL, "alice", request)
        assert (refusal is None) is (mode is BreakerMode.PACE)


def test_an_entry_of_a_tenants_calls_stands_beside_that_of_all_calls():
    both = [
        BreakerEntry("b-1", "", "shop", CALL, BreakerMode.REJECT, scope=EntryScope.CALL),
        BreakerEntry("b-2", "", "shop", CALL, BreakerMode.FLAG, scope=EntryScope.TENANT_CALL),
    ]
    for entries in (both, both[::-1]):
        table = BreakerTable("shop")
        at = StateVersion(1, 1)
        table.apply(Snapshot(at, PlatformMode.PROTECT, tuple(entries)), 0.0)
        assert not table.decide("alice", CALL, 1.0).allowed
        assert not table.decide(None, CALL, 1.0).allowed


def test_a_place_that_another_entry_makes_needless_is_given_back_under_the_lock(monkeypatch):
    """Two budgets match the call: it waits for the longer one alone."""
    entries = (
        BreakerEntry("b-1", "alice", "shop", CALL, **{**PACED, "budget": 0.2}),
        BreakerEntry("b-2", "alice", "shop", "", scope=EntryScope.USER_SERVICE, **PACED),
    )
    table = BreakerTable("shop")
    table.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, entries), 0.0)
    held, leave = [], Pacer.leave

    def leaving(pacer, turn_at):
        held.append(table._lock.locked())
        leave(pacer, turn_at)

    monkeypatch.setattr(Pacer, "leave", leaving)
    assert [table.decide("alice", CALL, 0.0, 9.0).delay_s for _ in range(2)] == [0.0, 1.0]
    assert held == [True]
