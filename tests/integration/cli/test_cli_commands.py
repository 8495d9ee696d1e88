"""Every command against a real HTTP server that answers as the collector's API does."""

import json
import os
import socket

import pytest
from cli_api import ENTRY, HOT, LINKED, TRACE, program, run

from heatshield.cli.client import Collector
from heatshield.cli.known import check_known


def test_request_shows_the_waterfall_and_json_is_the_answer_unchanged(api):
    shown = run("request", TRACE)
    assert shown.exit_code == 0, shown.output
    assert "20,000" in shown.stdout
    assert "shop POST /p" in shown.stdout
    assert json.loads(run("request", TRACE, "--json").stdout) == LINKED


def test_an_unknown_request_says_what_the_collector_says(api):
    result = run("request", "no/such")
    assert result.exit_code == 1
    assert "no /api/requests/no%2Fsuch here" in result.stderr
    assert result.stdout == ""


def test_hot_asks_for_what_the_flags_say(api):
    result = run("hot", "--once", "--cost", "elements", "--window", "1m", "--limit", "3")
    assert result.exit_code == 0, result.output
    assert api.asked[0][2] == {
        "cost": ["elements"],
        "window": ["1m"],
        "limit": ["3"],
        "by": ["call"],
    }
    assert "u-1" in result.stdout


def test_hot_into_a_pipe_prints_once_and_json_is_the_answer_unchanged(api):
    assert "90.0%" in run("hot").stdout
    assert json.loads(run("hot", "--once", "--json").stdout) == HOT


def test_an_unknown_window_is_a_wrong_call(api):
    assert run("hot", "--window", "2h").exit_code == 2
    assert api.asked == []


def test_breakers_lists_what_is_held(api):
    assert "b-8" in run("breakers").stdout
    held = json.loads(run("breakers", "--json").stdout)
    assert [entry["id"] for entry in held["entries"]] == ["b-8", "b-9"]


def test_trip_sends_the_entry_with_a_human_issuer_and_the_token(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    result = run(
        "trip", "u-1", "shop", "POST /p", "--lease", "2m", "--reason", "r", "--token", "s3"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert api.body_of("POST") == {
        "user": "u-1",
        "service": "shop",
        "call": "POST /p",
        "mode": "reject",
        "lease_ms": 120_000,
        "reason": "r",
        "issuer": "human:ada",
    }
    assert all(headers["Authorization"] == "Bearer s3" for *_, headers in api.asked)
    assert (
        "tripped b-8: reject POST /p of shop for user u-1, for 2 min or until it is cleared"
        in result.stdout
    )
    assert "shadow" not in result.stdout


def unknown(**near):
    """What the collector says of names that nothing has reported, by the nearest known ones."""
    names = ("user", "service", "call")
    return 200, {what: {"known": what not in near, "near": near.get(what)} for what in names}


def test_trip_of_names_that_nothing_has_reported_says_which_and_the_nearest_ones(api):
    api.answers["GET", "/api/known"] = unknown(user="u-1", call="POST /p")
    result = run("trip", "u-l", "shop", "POST /q")
    assert result.exit_code == 1
    said = "call 'POST /q' (the nearest known: 'POST /p'); nothing has reported the user 'u-l' (the"
    assert said in result.stderr
    assert "--force" in result.stderr
    api.answers["GET", "/api/known"] = unknown(service=None, call=None)
    result = run("trip", "u-1", "shp", "POST /p")
    assert "nothing has reported the service 'shp'. Nothing was tripped" in result.stderr
    assert not any(method == "POST" for method, *_ in api.asked)


def test_trip_with_force_asks_nothing_and_an_older_collector_is_believed(api):
    api.answers["GET", "/api/known"] = unknown(user=None)
    assert run("trip", "u-9", "shop", "POST /p", "--force").exit_code == 0
    del api.answers["GET", "/api/known"]
    assert run("trip", "u-9", "shop", "POST /p").exit_code == 0


def test_trip_goes_on_unchecked_where_the_store_is_too_slow_to_tell(api):
    api.answers["GET", "/api/known"] = (503, {"error": "the answer took more than 15 s"})
    result = run("trip", "u-9", "shop", "POST /p")
    assert result.exit_code == 0, result.output
    assert "tripped" in result.stdout
    assert "`heatshield hot` shows" in result.stderr
    api.answers["GET", "/api/known"] = (401, {"error": "no token"})
    assert run("trip", "u-9", "shop", "POST /p").exit_code == 1


def test_names_are_unchecked_too_where_no_answer_comes_in_time(capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = Collector(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        check_known(source, "u-9", "shop", "POST /p")
    assert "unchecked" in capsys.readouterr().err


def test_where_nobody_answers_a_trip_says_so_once(nobody):
    result = run("trip", "u-9", "shop", "POST /p")
    assert result.exit_code == 1
    assert "no collector answers" in result.stderr
    assert "unchecked" not in result.stderr


def test_trip_with_the_services_key_sends_the_pseudonym_and_never_the_raw_id(api, monkeypatch):
    monkeypatch.setenv("HEATSHIELD_USER_KEY", "k" * 32)
    known_as = run("pseudonym", "ann@example.com").stdout.strip()
    for named in ("ann@example.com", known_as):
        api.asked.clear()
        assert run("trip", named, "shop", "POST /p", "--force").exit_code == 0
        assert api.body_of("POST")["user"] == known_as
        assert "ann@example.com" not in str(api.asked)
    held = ENTRY | {"user": known_as}
    api.answers["GET", "/v1/breakers"] = (200, {"entries": [held]})
    assert run("clear", "--user", "ann@example.com").exit_code == 0


def test_trip_of_a_raw_id_where_services_send_pseudonyms_says_so(api):
    api.answers["GET", "/api/known"] = unknown(user="hs1-" + 32 * "0")
    result = run("trip", "ann", "shop", "POST /p")
    assert "HEATSHIELD_USER_KEY" in result.stderr


def test_trip_in_shadow_says_that_nothing_is_enforced(api):
    api.answers["GET", "/api/mode"] = (200, {"mode": "shadow"})
    assert "nothing is enforced" in run("trip", "u-1", "shop", "POST /p").stdout


def test_trickle_needs_a_rate_and_sends_it(api):
    assert run("trip", "u-1", "shop", "c", "--mode", "trickle").exit_code == 2
    assert run("trip", "u-1", "shop", "c", "--rate", "2").exit_code == 2
    assert api.asked == []
    assert run("trip", "u-1", "shop", "c", "--mode", "trickle", "--rate", "2").exit_code == 0
    assert api.body_of("POST")["rate_per_s"] == 2


def test_pace_takes_a_budget_and_no_other_mode_does(api):
    assert run("trip", "u-1", "shop", "c", "--budget", "0.1").exit_code == 2
    assert run("trip", "u-1", "shop", "c", "--mode", "pace").exit_code == 0
    assert "budget" not in api.body_of("POST")
    api.asked.clear()
    assert run("trip", "u-1", "shop", "c", "--mode", "pace", "--budget", "0.1").exit_code == 0
    assert api.body_of("POST")["budget"] == 0.1


def test_a_scope_leaves_open_what_it_is_not_about(api):
    assert run("trip", "u-1", "shop", "c", "--scope", "call", "--lease", "1m").exit_code == 2
    assert api.asked == []
    assert run("trip", "-", "shop", "c", "--scope", "call", "--lease", "1m").exit_code == 0
    body = api.body_of("POST")
    assert (body["user"], body["call"], body["scope"]) == ("", "c", "call")
    api.asked.clear()
    assert run("trip", "-", "shop", "-", "--scope", "user_service").exit_code == 2
    assert run("trip", "u-1", "shop", "-", "--scope", "user_service").exit_code == 0
    assert api.body_of("POST")["call"] == ""


def test_trip_json_is_the_entry(api):
    assert json.loads(run("trip", "u-1", "shop", "POST /p", "--json").stdout) == ENTRY


def test_a_lease_beyond_the_ceiling_is_a_wrong_call(api):
    assert run("trip", "u-1", "shop", "c", "--lease", "16m").exit_code == 2
    assert api.asked == []


def test_clear_by_id_and_by_user(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert "cleared b-8: user u-1 may call POST /p of shop again" in run("clear", "b-8").stdout
    assert api.asked[-1][:3] == ("DELETE", "/v1/breakers/b-8", {"by": ["ada"]})
    assert json.loads(run("clear", "--user", "u-1", "--json").stdout) == {"cleared": [ENTRY]}
    assert api.asked[-1][1] == "/v1/breakers/b-8"


def test_clear_of_a_user_without_breakers_fails_and_without_a_name_is_a_wrong_call(api):
    assert run("clear", "--user", "u-3").exit_code == 1
    assert run("clear").exit_code == 2
    assert run("clear", "b-8", "--user", "u-1").exit_code == 2
    assert not any(method == "DELETE" for method, *_ in api.asked)


def test_mode_is_shown_and_switched(api, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert run("mode").stdout == "protect: breakers are enforced\n"
    assert "nothing is enforced" in run("mode", "shadow").stdout
    assert api.body_of("PUT") == {"mode": "shadow", "by": "ada"}
    assert json.loads(run("mode", "--json").stdout) == {"mode": "protect"}


def test_a_refusal_shows_the_bodys_message_alone(api):
    api.answers["POST", "/v1/breakers"] = (403, {"error": "an ingest token can't write entries"})
    result = run("trip", "u-1", "shop", "c", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "heatshield: an ingest token can't write entries\n"


@pytest.mark.parametrize(("status", "body"), [(502, b"<html>"), (500, b""), (200, b"<html>")])
def test_something_that_is_no_collector_is_said_so(api, status, body):
    api.answers["GET", "/api/mode"] = (status, body)
    result = run("mode")
    assert result.exit_code == 1
    assert str(status) in result.stderr or "did not answer with JSON" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("request", TRACE),
        ("hot", "--once"),
        ("hot", "--json"),
        ("breakers", "--json"),
        ("trip", "u", "s", "c"),
        ("clear", "b-1"),
        ("mode",),
    ],
)
def test_without_a_collector_every_command_says_how_to_start_one(nobody, command):
    result = run(*command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert (
        result.stderr
        == f"heatshield: no collector answers at {nobody}: start one with `heatshield up`"
        " (connection refused)\n"
    )


def test_a_misspelt_setting_is_a_wrong_call(api, monkeypatch):
    monkeypatch.setenv("HEATSHIELD_ENDPONT", "http://x")
    result = run("mode")
    assert result.exit_code == 2
    assert "did you mean 'HEATSHIELD_ENDPOINT'" in result.stderr


def test_what_a_program_reads_is_never_cut_though_the_terminal_s_width_is_known(api):
    """In a process of its own: a pipe has no width, and COLUMNS is that of a shell's terminal."""
    user = "u" * 200
    answer = json.loads(json.dumps(HOT))
    answer["users"][0]["user"] = user
    api.answers["GET", "/api/users/hot"] = (200, answer)
    done = program("hot", env={**os.environ, "COLUMNS": "80"})
    (row,) = [line for line in done.stdout.splitlines() if line.startswith(user)]
    assert "POST /p" in row
    assert "hot" in row
