"""A recording that is fed twice gives the same findings, alerts, breaker changes and ids."""

import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from recording import BURNS_S, HOT, PURCHASE, recording
from replay import COLD_START_S, WORKERS, Replay, replay

from heatshield import names
from heatshield_alerts.series import METRIC_NAME
from heatshield_collector.settings import CollectorSettings
from heatshield_collector.simulation import Sent, Simulation

REPLAY = Path(__file__).parents[1] / "oracle" / "replay.py"


@pytest.fixture(scope="module")
def first() -> Replay:
    return replay()


def test_the_recording_has_all_that_a_replay_could_differ_in(first):
    """A user is found, alerted on, cut, probed and let go; people act; state is told in deltas."""
    found = first.rows("findings")
    assert {(row["user"], row["class"]) for row in found} >= {(HOT, "harmful"), (HOT, "heavy")}
    ids = list(dict.fromkeys(row["id"] for row in found))
    assert ids == [f"f-7-{n + 1}" for n in range(len(ids))]
    hot = [
        row["state"]
        for row in first.rows("alerts")
        if row["name"] == "HarmfulUser"
        and (row["labels"]["user"], row["labels"]["service"]) == (HOT, "shop")
    ]
    assert hot[:2] == ["pending", "firing"]
    assert hot[-1] == "resolved"
    changes = [
        (row["change"], row["entry"].get("user"))
        for row in first.rows("audit")
        if row["entry"].get("call", "") in ("", PURCHASE)
        and row["entry"].get("service", "shop") == "shop"
    ]
    assert [change for change, user in changes if user == HOT] == ["opened", "half_open", "closed"]
    assert [change for change, user in changes if user == "unknown"] == ["opened", "cleared"]
    assert ("mode", None) in changes
    assert None not in first.states
    assert first.states[-1]["version"] == first.simulation.breakers.at().version > 8
    dropped = first.simulation.dropped()
    assert dropped["duplicate"] > 0
    assert first.simulation.failures == 0


def test_a_second_replay_is_the_same_to_the_byte(first):
    assert replay().transcript() == first.transcript()


def test_in_another_process_that_hashes_texts_otherwise_it_is_the_same(first):
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, str(REPLAY)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert done.stdout == first.transcript()


def test_a_recording_that_is_decoded_ahead_of_its_time_gives_the_same(first):
    """Many payloads at once, and slices of them each at its own time."""
    stepwise, ahead = (
        Simulation(CollectorSettings(mode="protect", cold_start_s=COLD_START_S)) for _ in range(2)
    )
    sent = [Sent(*one) for one in recording()]
    for at_s, together in groupby(sent, key=lambda one: one.at_s):
        stepwise.advance(at_s - stepwise.elapsed_s)
        stepwise.receive(*(one.payload for one in together))
    ahead.replay(sent)
    assert ahead.rows == stepwise.rows
    assert ahead.events == stepwise.events
    assert HOT in {row["user"] for row in ahead.rows["findings"] if row["class"] == "hot"}


def test_quiet_traffic_finds_no_hot_user_and_trips_nothing():
    """Nor does anything else become an alert. `make bench` measures how long an hour takes."""
    simulation = Simulation(CollectorSettings(mode="protect", cold_start_s=COLD_START_S))
    simulation.breakers.attend("shop", "shop-0", WORKERS)
    simulation.replay(Sent(*one) for one in recording(3, hot=False))
    assert simulation.elapsed_s > 2 * COLD_START_S
    assert [row for row in simulation.rows["findings"] if row["class"] == "hot"] == []
    assert simulation.rows["audit"] == simulation.rows["alerts"] == []
    assert any(sample.labels[METRIC_NAME] == names.USER_LOAD for sample in simulation.samples())
    assert simulation.failures == 0


def test_another_recording_gives_other_findings(first):
    assert recording(2) != recording(1) == recording(1)
    other = Simulation(CollectorSettings(mode="protect", cold_start_s=COLD_START_S))
    other.replay(Sent(*one) for one in recording(2) if one.at_s < BURNS_S[1])
    found = [row["trace_ids"] for row in other.rows["findings"]]
    assert found != [row["trace_ids"] for row in first.rows("findings")][: len(found)]
