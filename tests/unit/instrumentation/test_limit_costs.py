"""What calls cost their users, where a declared limit is on that."""

import asyncio

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import heatshield
from heatshield.contract import DeclaredLimit, PlatformMode, Snapshot, StateVersion
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield.integrations.limit_costs import note_costs
from heatshield.names import COST_BYTES, COST_ELEMENTS, ENDUSER_ID, WAITED_US

ALICE = {"x-user": "alice"}


def hold(made, unit, rate):
    limit = DeclaredLimit("most", LimitPer.USER, unit, rate, service="shop")
    state = Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (), (limit,))
    made.runtime.table.apply(state, made.clock.monotonic())


def ask(app):
    async def once():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return (await client.get("/page", headers=ALICE)).status_code

    return asyncio.run(once())


def page(_request):
    return PlainTextResponse("a" * 100)


def guarded(_request):
    with heatshield.guard("stock"):
        return PlainTextResponse("a" * 100)


def test_what_is_refused_before_its_handler_costs_nothing(service):
    made = service(user_header="x-user")
    hold(made, LimitUnit.BYTES, 10.0)
    app = Starlette(routes=[Route("/page", page)])
    assert ask(app) == 200
    for _ in range(12):  # each answer of a refusal is longer than what a second allows
        made.clock.advance(0.5)
        assert ask(app) == 429
    made.clock.advance(10.0)
    assert ask(app) == 200


def test_what_a_guard_refuses_has_cost_what_it_did_before(service):
    made = service(user_header="x-user")
    made.trip("alice", "stock")
    held = made.runtime.table.entries
    limit = DeclaredLimit("most", LimitPer.USER, LimitUnit.BYTES, 1.0, service="shop")
    state = Snapshot(StateVersion(1, 2), PlatformMode.PROTECT, held, (limit,))
    made.runtime.table.apply(state, made.clock.monotonic())
    app = Starlette(routes=[Route("/page", guarded)])
    assert [ask(app), ask(app)] == [503, 429]


@pytest.mark.parametrize("odd", ["many", float("inf"), float("nan"), True])
def test_an_attribute_that_is_no_number_costs_nothing_and_fails_nothing(service, odd):
    made = service(user_header="x-user")
    hold(made, LimitUnit.ELEMENTS, 10.0)
    said = dict.fromkeys((COST_ELEMENTS, COST_BYTES, WAITED_US), odd)
    span = (
        TracerProvider()
        .get_tracer("a service")
        .start_span("GET /page", kind=SpanKind.SERVER, attributes={ENDUSER_ID: "alice", **said})
    )
    span.end()
    note_costs(span)
    assert made.runtime.table.decide("alice", "GET /page", made.clock.monotonic()).allowed
