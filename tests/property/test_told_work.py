"""The same work, told by spans, by reports, or by both, comes to the same loads.

Whatever order messages come in, and however often each does.
"""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_bodies import body
from span_rows import table
from told_work import Call, reports_of, spans_of, truth

from heatshield_collector.link.reporting import SILENT_S
from heatshield_collector.simulation import Simulation

UNTIL_MS = 1_600
SERVICES = ("shop", "talk", "mail")


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    """Calls of a process that began and ended within the time."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["ann", "bob", "cid"]),
                st.integers(0, 700),
                st.integers(1, 500),
                st.sampled_from([0, 0, 1, 40, 300]),
                st.sampled_from(["POST /p", "GET /"]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return [
        Call(number, user, start, cpu, redis, elements=redis // 2, name=name)
        for number, (user, start, cpu, redis, name) in enumerate(rows)
    ]


def told(work: Sequence[Call], how: str, service: str) -> list[tuple[int, str, object]]:
    """Messages, each with when it can come first: (ms, kind, what)."""
    messages: list[tuple[int, str, object]] = []
    if "spans" in how:
        messages += [(one.end_ms, "span", spans_of(one, service, f"{service}-1")) for one in work]
    if "reports" in how:
        reports = reports_of(work, UNTIL_MS, service, f"{service}-1")
        messages += [(one.number * 200, "report", body(one)) for one in reports]
    return messages


def loads_of(simulation: Simulation) -> dict[tuple[str, ...], tuple[float, float]]:
    """Bounds of what each (service, user, call, cost) came to, in seconds and pieces."""
    now_s = simulation.clock.monotonic()
    return {
        (row.key.service, str(row.key.user), row.key.call, cost): (
            round(row.lower * 60, 6),
            round(row.upper * 60, 6),
        )
        for cost in ("busy", "cpu", "backend", "calls", "elements")
        for row in simulation.detection.loads.top(cost, "1m", 999, now_s)
    }


def users_of(simulation: Simulation) -> dict[str | None, float]:
    """Busy seconds by user over all calls."""
    now_s = simulation.clock.monotonic()
    rows = simulation.detection.loads.top("busy", "1m", 99, now_s, by="user")
    return {row.key.user: row.load * 60 for row in rows}


def backends_of(simulation: Simulation) -> dict[object, float]:
    """Busy seconds by call, and of Redis, whatever its operations are called."""
    found: dict[object, float] = {}
    for one in simulation.detection.loads.calls("1m", 99, simulation.clock.monotonic()):
        at = "redis" if one.service == "redis" else (one.service, one.call)
        if one.loads["busy"]:
            found[at] = round(found.get(at, 0.0) + one.loads["busy"] * 60, 6)
    return found


def backends_in(expected: dict[tuple[str, ...], float]) -> dict[object, float]:
    found: dict[object, float] = {}
    for (service, _, call, cost), seconds in expected.items():
        if cost in ("cpu", "backend"):
            at = (service, call) if cost == "cpu" else "redis"
            found[at] = round(found.get(at, 0.0) + seconds, 6)
    return found


def play(
    work: dict[str, list[Call]], how: dict[str, str], delays: Sequence[int], seed: int
) -> Simulation:
    """Deliver each message one to three times, each time late by one of the delays (ms)."""
    dice = random.Random(seed)
    due = [
        (at_ms + dice.choice(delays), number, kind, what)
        for service in SERVICES
        for number, (at_ms, kind, what) in enumerate(told(work[service], how[service], service))
        for _ in range(dice.choice([1, 1, 2, 3]))
    ]
    simulation = Simulation()
    for at_ms, _, kind, what in sorted(due, key=lambda row: row[:2]):
        simulation.advance(max(0.0, at_ms / 1e3 - simulation.elapsed_s))
        if kind == "span":
            simulation.charge(table(what))
        else:
            simulation.report(what)
    simulation.advance(SILENT_S + 2)
    return simulation


hows = st.sampled_from(["spans", "reports", "spans and reports"])


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries({service: calls() for service in SERVICES}),
    st.fixed_dictionaries(dict.fromkeys(SERVICES, hows)),
    st.sampled_from([(0,), (0, 30, 90), (0, 250, 700), (0, 5, 2_000), (3_000, 0)]),
    st.integers(0, 2**16),
)
def test_the_same_work_comes_to_the_same_loads_however_it_is_told(work, how, delays, seed):
    simulation = play(work, how, delays, seed)
    found = loads_of(simulation)
    expected = {
        (service, str(user), call, kind): cost
        for service in SERVICES
        for (user, call, kind), cost in truth(work[service]).items()
    }
    assert found.keys() == expected.keys()
    for what, (lower, upper) in found.items():
        assert lower <= expected[what] <= upper, what
    assert users_of(simulation) == {
        user: pytest.approx(
            sum(cost for what, cost in expected.items() if what[1::2] == (user, "busy"))
        )
        for user in {what[1] for what in expected}
    }
    assert backends_of(simulation) == backends_in(expected)
