"""The page of the protocol: its JSON is the contract's, its figures are the code's."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from heatshield.breakers import pacing
from heatshield.contract import (
    HEARTBEAT_S,
    MAX_LEASE_MS,
    RAMP_S,
    RENEW_S,
    SHARE_S,
    SILENCE_S,
    WAIT_MS,
    WAITING,
    BreakerEntry,
    Delta,
    Report,
    ReportAnswer,
    Snapshot,
)
from heatshield_alerts.caps import Caps
from heatshield_alerts.held_breaker import COOL_S, ESCALATE_S, HALF_OPEN_S
from heatshield_alerts.restraint import FREE_OPENINGS, HOLD_DOWN_S, MAX_MOVES, MOVES_WINDOW_S

PAGE = (Path(__file__).parents[2] / "docs" / "breakers.md").read_text(encoding="utf-8")
STATE, REPORT = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def test_the_state_is_read_and_written_as_the_page_has_it():
    state = Snapshot.from_json(STATE)
    assert json.loads(json.dumps(state.to_json())) == STATE


def test_a_report_and_its_answer_are_read_and_written_as_the_page_has_them():
    assert json.loads(json.dumps(Report.from_json(REPORT).to_json())) == REPORT
    (answer,) = re.findall(r"The answer is `(.*?)`", PAGE)
    assert ReportAnswer.from_json(json.loads(answer)).to_json() == json.loads(answer)


def test_the_delta_is_one():
    (text,) = re.findall(r"\| `delta` \| `(.*?)`", PAGE)
    delta = Delta.from_json(json.loads(text.replace("ENTRY", json.dumps(STATE["entries"][0]))))
    assert (len(delta.upsert), delta.remove, delta.limits) == (1, ("b-3-9",), None)


@pytest.mark.parametrize("field", dataclasses.fields(BreakerEntry), ids=lambda one: one.name)
def test_every_field_of_an_entry_is_explained(field):
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{field.name}`" in row.split("|")[1] for row in rows)


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        (f"{WAITING} calls at an instance, {WAIT_MS // 1_000} s each", True),
        ("after two seconds", ESCALATE_S == 2),
        (f"low for {COOL_S:.0f} s", True),
        ("after six clean seconds", HALF_OPEN_S == 6),
        (f"heartbeat` | `{{}}`, every {HEARTBEAT_S:.0f} s", True),
        ("Six seconds of silence", SILENCE_S == 6),
        (f"Renew every {RENEW_S:.0f} s", True),
        (f"ramp of {RAMP_S:.0f} s", True),
        (f"at most {MAX_LEASE_MS:,}", True),
        (f"holds for {SHARE_S:.0f} s", True),
        (f"not known, take {pacing.UNKNOWN_COST_S}", True),
        (f"delay ≤ {pacing.TIMER_S}", True),
        (f"saves up {pacing.SAVED_S:.0f} s of the budget", True),
        (f"at most {Caps().entries} entries, {Caps().new_per_minute} new ones a minute", True),
        (f"{Caps().traffic_share:.0%} of its traffic".replace("%", " %"), True),
        (f"at most {MAX_MOVES} times in ten minutes", HOLD_DOWN_S == MOVES_WINDOW_S == 600),
        ("for the fourth time or more within ten minutes", FREE_OPENINGS == 3),
        (", ".join(f"{COOL_S * times:.0f} s" for times in (2, 4, 8)), MAX_MOVES // 2 == 6),
    ],
)
def test_the_figures_are_those_of_the_code(said, is_so):
    assert said in PAGE
    assert is_so
