"""What charge reports lead to, from their bytes to loads and findings, on virtual time."""

from typing import get_args

import pytest
from report_bodies import body, report

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.charge_report import Pair, ProcessState
from heatshield.cli import hot
from heatshield_collector.detect import COSTS
from heatshield_collector.ports import CostName
from heatshield_collector.simulation import Simulation
from heatshield_dashboards import hot_users

STEP_S = 0.2


def key(user: str | None, call: str = "POST /p") -> CallKey:
    return CallKey(DEFAULT_TENANT, user, "shop", call)


def loads(simulation: Simulation, cost: str = "busy", seconds: float = 10.0) -> dict:
    """What each key cost within ten seconds, in seconds or pieces."""
    rows = simulation.detection.loads.top(cost, "10s", 99, simulation.clock.monotonic())
    return {row.key: round(row.load * seconds, 6) for row in rows}


def test_a_report_counts_once_whenever_and_however_often_it_comes():
    simulation = Simulation()
    first, second = (
        body(report(Pair("u-1", "POST /p", cpu_us=us, calls=1), number=number))
        for number, us in ((1, 30_000), (2, 50_000))
    )
    assert simulation.report(second, second) == [True, False]
    assert simulation.report(first) == [True]
    assert simulation.report(first, second) == [False, False]
    assert loads(simulation) == {key("u-1"): 0.08}
    assert loads(simulation, "calls") == {key("u-1"): 2.0}
    assert simulation.reports() == {"counted": 2, "late": 0, "duplicate": 3, "too_old": 0}


def test_time_in_a_backend_is_the_users_and_the_backends():
    simulation = Simulation()
    pair = Pair("u-1", "POST /p", cpu_us=10_000, elements=7, calls=1, errors=1)
    simulation.report(body(report(pair, backend_us=[(0, "redis cart:6379", 90_000)])))
    assert loads(simulation) == {key("u-1"): 0.1}
    assert loads(simulation, "elements") == {key("u-1"): 7.0}
    calls = simulation.detection.loads.calls("10s", 9, simulation.clock.monotonic())
    seen = {(one.service, one.call): one.loads for one in calls}
    assert round(seen["redis", "cart:6379"]["busy"], 6) == 0.009
    assert round(seen["shop", "POST /p"]["busy"], 6) == 0.001
    assert seen["shop", "POST /p"]["errors"] == 0.1


def test_users_that_nobody_knows_and_the_rest_count_in_totals_and_are_never_hot():
    simulation = Simulation()
    for number in range(1, 11):
        simulation.report(
            body(
                report(
                    Pair(None, "POST /p", cpu_us=900_000, calls=9),
                    Pair("", "POST /p", cpu_us=900_000, calls=9),
                    number=number,
                )
            )
        )
        simulation.advance(STEP_S)
    assert loads(simulation) == {key(None): 18.0}
    assert simulation.rows["findings"] == []


def test_a_user_who_burns_by_reports_alone_is_found_within_a_second():
    simulation = Simulation()
    state = ProcessState(cpu_us=180_000, processors=2.0, workers=2)
    for number in range(1, 6):
        pair = Pair("u-1", "POST /p", cpu_us=180_000, calls=8)
        simulation.report(body(report(pair, number=number, process=state)))
        simulation.advance(STEP_S)
    assert {row["user"] for row in simulation.rows["findings"]} == {"u-1"}


@pytest.mark.parametrize("workers", [2, 4_096])
def test_a_claim_of_workers_hides_nobody_who_burns(workers: int):
    simulation = Simulation()
    state = ProcessState(cpu_us=180_000, processors=float(workers), workers=workers)
    for number in range(1, 8):
        pair = Pair("u-1", "POST /p", cpu_us=180_000, calls=8)
        simulation.report(body(report(pair, number=number, process=state)))
        simulation.advance(STEP_S)
    assert "u-1" in {row["user"] for row in simulation.rows["findings"]}


def test_a_process_that_reports_lives_and_has_the_workers_that_it_says():
    simulation = Simulation()
    state = ProcessState(processors=2.0, workers=3)
    simulation.report(body(report(process=state)))
    (one,) = simulation.breakers.live(simulation.clock.now())
    assert (one.service, one.instance, one.workers, one.processors) == ("shop", "i-1", 3, 2.0)
    simulation.advance(1.0)
    assert simulation.breakers.capacities() == {"shop": 2.0}
    simulation.advance(40.0)
    assert simulation.breakers.capacities() == {}


def test_users_are_ranked_by_every_cost_wherever_there_is_a_choice():
    assert {one.value for one in hot.CostName} == set(get_args(CostName)) == set(COSTS)
    assert set(hot_users.COSTS) == set(COSTS)
    simulation = Simulation()
    pair = Pair("u-1", "POST /p", cpu_us=10_000, wait_us=30_000, elements=7, calls=1)
    simulation.report(body(report(pair, backend_us=[(0, "redis", 20_000)])))
    expected = {"busy": 0.03, "cpu": 0.01, "backend": 0.02, "wait": 0.03, "elements": 7, "calls": 1}
    for cost in COSTS:
        assert loads(simulation, cost) == {key("u-1"): expected[cost]}
        total = simulation.detection.loads.total(cost, "10s", simulation.clock.monotonic())
        assert round(total * 10, 6) == expected[cost]
