"""A recording that is fed twice gives the same findings, alerts, breaker changes and ids."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recording import HOT, PURCHASE, recording
from replay import Replay, replay

REPLAY = Path(__file__).parents[1] / "oracle" / "replay.py"


@pytest.fixture(scope="module")
def first() -> Replay:
    return replay()


def test_the_recording_has_all_that_a_replay_could_differ_in(first):
    """A user is found, alerted on, cut, probed and let go; people act; state is told in deltas."""
    found = first.rows("findings")
    assert {(row["user"], row["class"]) for row in found} >= {(HOT, "hot"), (HOT, "heavy")}
    assert [row["id"] for row in found] == [f"f-7-{n + 1}" for n in range(len(found))]
    hot = [
        row["state"]
        for row in first.rows("alerts")
        if (row["labels"]["user"], row["labels"]["service"]) == (HOT, "shop")
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


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_in_another_process_that_hashes_texts_otherwise_it_is_the_same(first, hash_seed):
    done = subprocess.run(
        [sys.executable, str(REPLAY)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
    )
    assert done.stdout == first.transcript()


def test_another_recording_gives_another_transcript(first):
    assert recording(2) != recording(1)
    assert replay(2).transcript() != first.transcript()
