"""What a service's own log says of a collector that telemetry does not reach."""

import logging

import pytest

from heatshield.clock import ManualClock
from heatshield.export.reachability import AGAIN_S, Reachability


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def reachability(clock):
    return Reachability("http://collector:4318", clock)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "heatshield")
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_outage_is_told_of_once_with_what_to_do(reachability, said):
    for _ in range(3):
        reachability.lost("connection refused")
    (line,) = said()
    assert "http://collector:4318: connection refused" in line
    assert "HEATSHIELD_ENDPOINT" in line


def test_its_end_is_told_of_too(reachability, said):
    reachability.arrived()
    assert said() == []
    reachability.lost("connection refused")
    reachability.arrived()
    reachability.arrived()
    assert len(said()) == 2
    assert said()[-1].endswith("collector at http://collector:4318 again")


def test_at_the_end_only_what_never_arrived_is_told_of(reachability, said):
    reachability.arrived()
    reachability.lost("connection refused", is_end=True)
    assert said() == []


def test_a_short_program_is_told_at_its_end(reachability, said):
    reachability.lost("connection refused", is_end=True)
    assert len(said()) == 1


def test_a_collector_that_comes_and_goes_does_not_fill_the_log(reachability, said, clock):
    for _ in range(5):
        reachability.lost("timed out")
        reachability.arrived()
    assert len(said()) == 2
    clock.advance(AGAIN_S)
    reachability.lost("timed out")
    assert len(said()) == 3
