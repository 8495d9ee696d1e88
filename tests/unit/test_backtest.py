"""Replay: the same of every format, silences cost nothing, trips and findings say when and why."""

import pytest
from recorded_files import OTLP, write
from recording import EPOCH_NS, HOT, recording

import heatshield_collector.backtest as module
from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_alerts.rules import load_text
from heatshield_collector.backtest import Backtest, backtest
from heatshield_collector.control.finding_book import QUIET_S
from heatshield_collector.decode.span_columns import detected_table
from heatshield_collector.detect import Finding
from heatshield_collector.recordings import SortedSpans, read_recordings
from heatshield_collector.settings import CollectorSettings

SETTINGS = CollectorSettings(mode="protect", cold_start_s=0.0)
TRIP_HOT = """
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


def play(paths, *, rules=None, settings=SETTINGS, run_spans=1_000_000, **more):
    with SortedSpans(run_spans=run_spans) as spans:
        read_recordings(paths, spans, lambda problem: pytest.fail(str(problem)))
        return backtest(spans, settings, rules, **more)


@pytest.fixture(scope="module")
def payloads():
    return [sent.payload for sent in recording()]


@pytest.fixture(scope="module")
def expected(payloads, tmp_path_factory):
    return play([write(tmp_path_factory.mktemp("otlp"), "spans.pb", payloads)]).to_json()


def test_the_user_who_burns_is_found_and_told_when(expected):
    assert expected["spans"] > 4_000
    assert 43 < expected["virtual_seconds"] < 45
    row = next(one for one in expected["findings"] if one["class"] == "hot")
    assert row["user"] == HOT
    assert row["service"] in {"shop", "gateway"}
    assert 21.5 < row["opened_s"] < 23
    assert 24 < row["closed_s"] < 26
    assert "workers busy" in row["reason"]
    assert row["figures"]["load"] > row["figures"]["baseline"]
    assert {one["user"] for one in expected["findings"]} <= {HOT, None}


@pytest.mark.parametrize("name", ["spans.jsonl", "varint.pb", "zipkin.json", "zipkin.jsonl"])
def test_every_format_gives_the_same_answer(name, payloads, expected, tmp_path):
    found = play([write(tmp_path, name, payloads)]).to_json()
    assert found == expected if name in OTLP else rounded(found) == rounded(expected)


def rounded(said):
    """The same with figures of fewer digits: Zipkin's times are whole microseconds."""
    return {
        **said,
        "findings": [
            {
                **row,
                "figures": {
                    name: round(value, 3) if isinstance(value, float) else value
                    for name, value in row["figures"].items()
                },
            }
            for row in said["findings"]
        ],
    }


def test_a_replay_whose_spans_do_not_fit_into_memory_gives_the_same_answer(
    payloads, expected, tmp_path
):
    path = write(tmp_path, "spans.pb", list(reversed(payloads)))
    assert play([path], run_spans=500).to_json()["findings"] == expected["findings"]


def test_a_trip_says_whom_what_when_and_why(payloads, tmp_path):
    path = write(tmp_path, "spans.pb", payloads)
    outcome = play([path], rules=load_text(TRIP_HOT))
    first = outcome.trips[0].to_json()
    assert first.keys() == {"user", "service", "call", "action", "at_s", "reason"}
    assert (first["user"], first["action"]) == (HOT, "pace")
    assert 21.5 < first["at_s"] < 23
    assert first["reason"]


def test_a_cold_start_trips_nobody(payloads, tmp_path):
    settings = CollectorSettings(mode="protect", cold_start_s=120.0)
    path = write(tmp_path, "spans.pb", payloads)
    assert play([path], rules=load_text(TRIP_HOT), settings=settings).trips == []


def test_workers_that_are_named_count_in_place_of_instances(payloads, tmp_path):
    path = write(tmp_path, "spans.pb", payloads)
    many = play([path], workers={"shop": 1_000.0})
    found = {(one.klass, one.service) for one in many.findings}
    assert ("hot", "gateway") in found
    assert ("hot", "shop") not in found


def spans_at(*ends_s):
    rows = [
        (
            *(number.to_bytes(16, "big"), number.to_bytes(8, "big"), b"", "s", "i", "op", 2),
            *(EPOCH_NS + round(end_s * NS) - 5_000_000, 5_000_000, 0),
            *("u", None, None, None, 0, 0, 0, None, None, 0, None),
        )
        for number, end_s in enumerate(ends_s, 1)
    ]
    return detected_table(rows)


def test_a_silence_of_days_costs_no_rounds(monkeypatch):
    rounds = []
    note = module._Found.note
    monkeypatch.setattr(
        module._Found, "note", lambda self, now, found: (rounds.append(now), note(self, now, found))
    )
    with SortedSpans() as spans:
        spans.add(spans_at(0, 1, 3 * 86_400, 3 * 86_400 + 1))
        outcome = backtest(spans, SETTINGS)
    assert outcome.spans == 4
    assert outcome.virtual_seconds == pytest.approx(3 * 86_400 + 1)
    assert len(rounds) < 4 * 400
    assert rounds[-1].monotonic_s - rounds[0].monotonic_s == pytest.approx(3 * 86_400, abs=5)


def test_spans_arrive_when_they_have_ended():
    test = Backtest(EPOCH_NS, SETTINGS)
    seen = []
    test._simulation.charge = lambda table: seen.append((test.elapsed_s, table.num_rows))
    table = spans_at(0, 0.1, 0.25, 1.05)
    test.take((table["start_ns"].to_numpy() + table["duration_ns"].to_numpy()), table)
    assert seen == [(pytest.approx(0.2), 2), (pytest.approx(0.4), 1), (pytest.approx(1.2), 1)]


def finding(load, *, user="u"):
    key = CallKey(DEFAULT_TENANT, user, "s", "op")
    return Finding("hot", key, "busy", "1s", load, 0.1, f"load {load}", figures={"n": 3.0})


def test_a_finding_closes_when_it_is_quiet_and_one_that_lasts_stays_open():
    found = module._Found(100.0)
    for at_s, findings in (
        (101.0, [finding(1.0)]),
        (102.0, [finding(3.0), finding(1.0, user="v")]),
        (103.0, []),
        (102.0 + QUIET_S, [finding(2.0)]),  # the same one
        (113.0 + 2 * QUIET_S, [finding(0.5)]),  # another one
    ):
        found.note(Instant(at_s, 0), findings)
    first, other, again = found.rows()
    assert (first.opened_s, first.closed_s, first.reason) == (1.0, 2.0 + QUIET_S, "load 3.0")
    assert first.figures == {"load": 3.0, "baseline": 0.1, "window": "1s", "cost": "busy", "n": 3.0}
    assert (other.user, other.opened_s, other.closed_s) == ("v", 2.0, 2.0)
    assert (again.opened_s, again.closed_s) == (13.0 + 2 * QUIET_S, None)


def test_a_recording_without_spans_has_no_answer():
    with SortedSpans() as spans:
        assert backtest(spans, SETTINGS).to_json() == {
            "spans": 0,
            "virtual_seconds": 0.0,
            "findings": [],
            "trips": [],
        }
