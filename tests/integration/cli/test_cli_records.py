"""Commands that list what was recorded, against a real HTTP server that answers as the API does."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from cli_api import ALERTS, AUDIT, FINDINGS, REQUESTS, TRACE, run

ANSWERS = {"audit": AUDIT, "alerts": ALERTS, "findings": FINDINGS, "requests": REQUESTS}
LISTS = {"audit": "changes", "alerts": "alerts", "findings": "findings", "requests": "requests"}


@pytest.mark.parametrize("command", ANSWERS)
def test_json_is_the_answer_unchanged(api, command):
    assert json.loads(run(command, "--json").stdout) == ANSWERS[command]


@pytest.mark.parametrize("command", ANSWERS)
def test_where_nothing_is_recorded_a_sentence_says_so_and_json_is_json(api, command):
    api.answers["GET", f"/api/{command}"] = (200, {LISTS[command]: []})
    shown = run(command)
    assert (shown.exit_code, shown.stdout.count("\n")) == (0, 1)
    assert json.loads(run(command, "--json").stdout) == {LISTS[command]: []}


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (
            "audit",
            ["opened", "b-8", "u-1", "shop", "POST /p", "rule:HarmfulUser", "burns 2.1 of 4"],
        ),
        ("audit", ["mode", "human:ann", "shadow → protect"]),
        (
            "alerts",
            ["firing", "HarmfulUser", "hot", "u-1", "POST /p", "2.10", "u-1 burns the shop"],
        ),
        (
            "findings",
            [
                "2023-11-14 22:13:20",
                "harmful: pace",
                "open, 12 s",
                "u-1",
                "2.12 busy over 1s",
                TRACE,
                "128 of 312 requests, 41 users; p95 410.0 ms, usually 12.0 ms",
                "40 times",
            ],
        ),
        ("requests", [TRACE, "2023-11-14 22:13:20", "unknown", "1.24 s", "310.0 ms", "12"]),
    ],
)
def test_a_row_says_who_what_when_and_why(api, command, parts):
    lines = run(command).stdout.splitlines()
    assert any(all(part in line for part in parts) for line in lines), lines


def test_requests_asks_for_what_the_flags_say(api):
    assert run("requests").exit_code == 0
    assert api.asked[-1][2] == {"since_s": ["3600"], "limit": ["20"]}
    flags = ["--user", "u-1", "--service", "shop", "--call", "POST /p", "--errors"]
    assert run("requests", *flags, "--min-ms", "250", "--since", "3d", "--own").exit_code == 0
    assert api.asked[-1][2] == {
        "user": ["u-1"], "service": ["shop"], "call": ["POST /p"], "errors": ["true"],
        "min_duration_ms": ["250"], "since_s": ["259200"], "limit": ["20"], "own": ["true"],
    }  # fmt: skip
    assert run("requests", "--no-errors").exit_code == 0
    assert api.asked[-1][2]["errors"] == ["false"]


def test_findings_asks_for_what_the_flags_say(api):
    assert run("findings").exit_code == 0
    assert api.asked[-1][2] == {"limit": ["50"]}
    flags = ["--class", "harmful", "--user", "u-1", "--service", "shop", "--limit", "7"]
    assert run("findings", *flags, "--open").exit_code == 0
    assert api.asked[-1][2] == {
        "class": ["harmful"], "user": ["u-1"], "service": ["shop"], "limit": ["7"],
        "open": ["true"],
    }  # fmt: skip
    assert run("findings", "--closed").exit_code == 0
    assert api.asked[-1][2]["open"] == ["false"]
    assert run("findings", "--class", "lukewarm").exit_code == 2


def test_findings_on_a_terminal_are_asked_for_again_until_ctrl_c(api):
    main, terminal = pty.openpty()
    program = [sys.executable, "-c", "from heatshield.cli import main; main()"]
    with subprocess.Popen(
        [*program, "findings", "--interval", "0.1"], stdout=terminal, stderr=terminal
    ) as running:
        os.close(terminal)
        shown = b""
        while len(api.asked) < 3 or b"harmful" not in shown:
            shown += os.read(main, 65_536)
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux says so at the end of a terminal
            while os.read(main, 65_536):
                pass
        assert running.wait(20) == 0
    os.close(main)


@pytest.mark.parametrize("since", ["3", "0s", "h", "-1h", "400d", "1w"])
def test_an_age_that_is_none_is_a_wrong_call(api, since):
    assert run("requests", "--since", since).exit_code == 2
    assert api.asked == []


def test_a_user_is_searched_by_the_pseudonym_where_services_have_a_key(api, monkeypatch):
    monkeypatch.setenv("HEATSHIELD_USER_KEY", "k" * 32)
    known_as = run("pseudonym", "ann").stdout.strip()
    assert run("requests", "--user", "ann").exit_code == 0
    assert api.asked[-1][2]["user"] == [known_as]


def test_the_collectors_own_calls_are_left_out_of_hot_unless_asked_for(api):
    run("hot")
    assert "own" not in api.asked[-1][2]
    run("hot", "--own")
    assert api.asked[-1][2]["own"] == ["true"]
