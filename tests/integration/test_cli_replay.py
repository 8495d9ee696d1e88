"""``heatshield replay`` on files and on a store: what it prints, and how it says what is wrong."""

import json
import logging
import time

import pytest
from cli_api import program, run
from recorded_files import json_lines, write
from recording import EPOCH_NS, HOT, LASTS_S, recording

from heatshield.cli.errors import CliError
from heatshield_collector.decode import decode_traces
from heatshield_collector.model import SPANS
from heatshield_collector.replay_cli import capacities_of, moment_ns
from heatshield_collector.store import DuckDBStore

PAYLOADS = [sent.payload for sent in recording()]
RULES = """
groups:
  - name: recorded
    interval: 250ms
    rules:
      - alert: TripHot
        expr: max by (user, service, call) (heatshield_finding{class="hot"}) > 0
        labels: {heatshield_action: trip}
        annotations: {heatshield_ladder: "pace, reject"}
"""
NS = 10**9


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


def test_files_of_two_formats_are_one_recording_and_stdout_is_one_object(tmp_path, rules):
    first = write(tmp_path, "spans.pb", PAYLOADS[::2])
    second = write(tmp_path, "zipkin.json.gz", PAYLOADS[1::2])
    result = program("replay", str(first), str(second), "--rules", rules, "--json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert set(answer) == {"spans", "virtual_seconds", "findings", "trips"}
    assert answer["spans"] > 4_000
    finding = next(one for one in answer["findings"] if one["class"] == "hot")
    assert set(finding) == {
        *("class", "user", "service", "call", "opened_s", "closed_s", "reason", "figures"),
    }
    assert {one["user"] for one in answer["trips"]} == {HOT}
    assert set(answer["trips"][0]) == {"user", "service", "call", "action", "at_s", "reason"}
    assert result.stderr == ""


def test_people_are_shown_who_would_have_been_cut_and_why(tmp_path, rules):
    path = write(tmp_path, "spans.jsonl", PAYLOADS)
    result = run("replay", str(path), "--rules", rules)
    assert result.exit_code == 0, result.output
    assert "would have been cut" in result.stdout
    assert "2023-11-14 22:13:42" in result.stdout
    assert logging.getLogger("heatshield_collector.control").isEnabledFor(logging.WARNING)
    assert HOT in result.stdout
    assert "workers busy" in result.stdout


def test_a_policy_keeps_rules_from_users_and_a_cold_start_from_all(tmp_path, rules):
    path = write(tmp_path, "spans.pb", PAYLOADS)
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"rules: {{never_users: ['{HOT}']}}\n")
    for more in (("--policy", str(policy)), ("--cold-start-s", "100")):
        result = run("replay", str(path), "--rules", rules, *more)
        assert "nobody would have been slowed or refused" in result.stdout
        assert "would have been found" in result.stdout


def test_the_store_is_a_recording(tmp_path, rules):
    folder = tmp_path / "store"
    store = DuckDBStore(folder)
    decoded = decode_traces(PAYLOADS, EPOCH_NS)
    store.append({"spans": decoded.table.select(SPANS.names), "resources": decoded.resources})
    store.close()
    span_of_time = ("--since", str(EPOCH_NS / NS), "--until", str(EPOCH_NS / NS + LASTS_S + 5))
    result = run("replay", *span_of_time, "--data", str(folder), "--rules", rules, "--json")
    assert result.exit_code == 0, result.output
    path = write(tmp_path, "spans.pb", PAYLOADS)
    from_file = run("replay", str(path), "--rules", rules, "--json")
    stored, recorded = json.loads(result.stdout), json.loads(from_file.stdout)
    assert stored == recorded
    half = ("--since", str(EPOCH_NS / NS), "--until", str(EPOCH_NS / NS + 20))
    result = run("replay", *half, "--data", str(folder), "--json")
    assert json.loads(result.stdout)["findings"] == []


def test_what_is_damaged_is_told_on_stderr_and_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(PAYLOADS[:2]) + b"\x1b[31mno JSON\n" * 30)
    result = run("replay", str(path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["spans"] > 0
    assert f"left out: {path}, line 3: not JSON" in result.stderr
    assert "line 30" not in result.stderr
    assert "30 parts of the recording were left out" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ((), "name recordings, or a time by --since", 2),
        (("a", "--since", "1h"), "name recordings, or a time by --since", 2),
        (("/no/such/file",), "No such file", 1),
        (("--since", "1h", "--data", "/no/such/store"), "no store", 1),
        ((__file__,), "no recording of spans", 1),
        ((__file__, "--workers", "shop"), "say SERVICE=N", 2),
        ((__file__, "--rules", "/no/such/rules"), "/no/such/rules", 1),
    ],
)
def test_what_is_wrong_is_one_line(arguments, said, code):
    result = run("replay", *arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""


def test_workers_are_read():
    assert capacities_of(["shop=4", "a=b=0.5"]) == {"shop": 4.0, "a=b": 0.5}
    for wrong in ("shop", "=4", "shop=", "shop=x", "shop=0", "shop=-1", "shop=nan", "shop=inf"):
        with pytest.raises(CliError, match="say SERVICE=N"):
            capacities_of([wrong])


def test_times_are_read():
    now_ns = time.time_ns()
    assert moment_ns("2h", now_ns) == now_ns - 7_200 * NS
    assert moment_ns("1700000000", now_ns) == 1_700_000_000 * NS
    assert moment_ns("1700000000000000000", now_ns) == 1_700_000_000 * NS
    assert moment_ns("2023-11-14T22:13:20", now_ns) == 1_700_000_000 * NS
    assert moment_ns("2023-11-14T23:13:20+01:00", now_ns) == 1_700_000_000 * NS
    with pytest.raises(CliError):
        moment_ns("soon", now_ns)
