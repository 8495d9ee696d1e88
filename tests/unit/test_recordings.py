"""Recordings: told by their content, read piece by piece, and what is damaged is told and left."""

import json

import numpy as np
import pytest
from recorded_files import (
    OTLP,
    ZIPKIN,
    framed,
    json_lines,
    otlp_document,
    varint,
    write,
    zipkin_spans,
)
from recording import recording

from heatshield_collector.decode.span_columns import DETECTED, detected_table
from heatshield_collector.recordings import RecordingError, SortedSpans, framing, read_recordings
from heatshield_collector.recordings.framing import FramingError, items, lines, messages

PAYLOADS = [sent.payload for sent in recording()[:40]]


def read(*paths, run_spans=1_000_000):
    """All spans of recordings by their end, as rows, and what was told."""
    problems = []
    with SortedSpans(run_spans=run_spans) as spans:
        read_recordings(paths, spans, problems.append)
        chunks = list(spans.chunks())
    tables = [table for _, table in chunks]
    ends = np.concatenate([ends for ends, _ in chunks]) if chunks else np.empty(0)
    assert (np.diff(ends) >= 0).all()
    return [row for table in tables for row in table.to_pylist()], problems


def in_order(rows, *, zipkin=False):
    """Rows in an order that all formats share, with no more than Zipkin can say."""
    if zipkin:
        rows = [
            {
                **row,
                "start_ns": row["start_ns"] // 1_000,
                "duration_ns": (row["start_ns"] + row["duration_ns"]) // 1_000
                - row["start_ns"] // 1_000,
            }
            for row in rows
        ]
    return sorted(rows, key=lambda row: (row["trace_id"], row["span_id"], row["service"]))


def stepwise(content, size):
    """A stream that gives a few bytes at a time."""
    blocks = iter([content[at : at + size] for at in range(0, len(content), size)])
    return lambda: next(blocks, b"")


@pytest.mark.parametrize("name", sorted(OTLP))
def test_every_form_of_otlp_says_the_same(name, tmp_path):
    expected, _ = read(write(tmp_path, "spans.pb", PAYLOADS))
    found, problems = read(write(tmp_path, name, PAYLOADS))
    assert problems == []
    assert in_order(found) == in_order(expected)
    assert len(found) > 400


@pytest.mark.parametrize("name", sorted(ZIPKIN))
def test_every_form_of_zipkin_says_what_otlp_says(name, tmp_path):
    expected, _ = read(write(tmp_path, "spans.pb", PAYLOADS))
    found, problems = read(write(tmp_path, name, PAYLOADS))
    assert problems == []
    assert in_order(found, zipkin=True) == in_order(expected, zipkin=True)


def test_what_does_not_fit_into_memory_is_the_same(tmp_path):
    path = write(tmp_path, "spans.pb", PAYLOADS)
    expected, _ = read(path)
    found, _ = read(path, run_spans=50)
    assert in_order(found) == in_order(expected)


def test_several_files_are_merged_by_time(tmp_path):
    first = write(tmp_path, "spans.pb", PAYLOADS[::2])
    second = write(tmp_path, "zipkin.json", PAYLOADS[1::2])
    whole, _ = read(write(tmp_path, "spans.jsonl", PAYLOADS))
    merged, _ = read(first, second, run_spans=100)
    assert in_order(merged, zipkin=True) == in_order(whole, zipkin=True)


def test_nothing_is_left_on_the_disk(tmp_path):
    with SortedSpans(tmp_path / "..", run_spans=10) as spans:
        read_recordings([write(tmp_path, "spans.pb", PAYLOADS)], spans, print)
        next(spans.chunks())
        folder = spans._folder
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b'{"resourceSpans": 7}',
        b'{"resourceMetrics": []}',
        b"[1, 2]",
        b"\xff\xfe",
        b'{"resourceSpans": [' + b"[" * 5_000 + b"]" * 5_000 + b"]}",
    ],
)
def test_a_damaged_line_is_told_with_its_number_and_the_others_are_read(line, tmp_path):
    path = tmp_path / "a.jsonl"
    good = json_lines(PAYLOADS[:2])
    path.write_bytes(good + line + b"\n\n" + good)
    found, problems = read(path)
    assert len(found) == 2 * len(read(write(tmp_path, "spans.pb", PAYLOADS[:2]))[0])
    assert {problem.place for problem in problems} == {"line 3"}
    assert str(problems[0]).startswith(f"{path}, line 3: ")


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": "xyz"},
        {"traceId": "0" * 32},
        {"spanId": None},
        {"spanId": "00" * 8},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -5},
        {"endTimeUnixNano": 2**70},
        {"endTimeUnixNano": 0},
        {"name": 7},
        {"name": "\ud800"},
        {"attributes": 7},
        {"attributes": [{"value": {}}]},
        {"attributes": [{"key": "heatshield.cost.elements", "value": {"intValue": "x"}}]},
        {"status": "bad"},
        {"kind": []},
    ],
)
def test_a_damaged_span_is_left_out_alone(change, tmp_path):
    document = otlp_document(PAYLOADS[0])
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    whole = len(spans)
    spans[1] = {**spans[1], **change}
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(PAYLOADS[1:2]) + json.dumps(document).encode() + b"\n")
    found, problems = read(path)
    if "kind" in change:  # what is unknown is unspecified
        assert len(found) == whole + len(otlp_spans(PAYLOADS[1]))
        return
    if change.get("name") == "\ud800":  # no JSON text at all, to the parser
        assert [problem.place for problem in problems] == ["line 2"]
        return
    assert len(found) == whole - 1 + len(otlp_spans(PAYLOADS[1]))
    assert [(problem.place, problem.spans) for problem in problems] == [("line 2", 1)]


def otlp_spans(payload):
    return otlp_document(payload)["resourceSpans"][0]["scopeSpans"][0]["spans"]


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": 5},
        {"traceId": "f" * 40},
        {"id": "0"},
        {"timestamp": "soon"},
        {"timestamp": 2**62},
        {"duration": -1},
        {"tags": [1]},
        {"localEndpoint": "here"},
        {"annotations": [None], "timestamp": 0},
        {"timestamp": 0},
    ],
)
def test_a_damaged_zipkin_span_is_left_out_alone(change, tmp_path):
    spans = zipkin_spans(PAYLOADS[0])
    spans[1] = {**spans[1], **change}
    path = tmp_path / "zipkin.json"
    path.write_text(json.dumps(spans, indent=1))
    found, problems = read(path)
    assert len(found) == len(spans) - 1
    assert [(problem.place, problem.spans) for problem in problems] == [("item 2", 1)]


@pytest.mark.parametrize("indent", [None, 1])
def test_one_request_as_large_as_the_file_is_read_resource_by_resource(
    indent, tmp_path, monkeypatch
):
    whole = {"resourceSpans": [r for one in PAYLOADS for r in otlp_document(one)["resourceSpans"]]}
    path = tmp_path / "whole.json"
    path.write_text("\n".join([json.dumps(whole, indent=indent)] * 2))
    monkeypatch.setattr(framing, "MAX_PIECE_BYTES", path.stat().st_size // 4)
    monkeypatch.setattr("heatshield_collector.recordings.sniff.HEAD_BYTES", 1_000)
    monkeypatch.setattr("heatshield_collector.recordings.sniff.LINE_BYTES", 2_000)
    found, problems = read(path)
    assert problems == []
    expected, _ = read(write(tmp_path, "spans.pb", [*PAYLOADS, *PAYLOADS]))
    assert in_order(found) == in_order(expected)


def test_a_first_line_that_is_longer_than_the_head_is_still_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("heatshield_collector.recordings.sniff.HEAD_BYTES", 1_000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(PAYLOADS[:2]) + b"{damaged\n" + json_lines(PAYLOADS[2:4]))
    found, problems = read(path)
    assert [problem.place for problem in problems] == ["line 3"]
    assert len(found) == sum(len(otlp_spans(one)) for one in PAYLOADS[:4])


def test_a_damaged_message_is_told_and_the_others_are_read(tmp_path):
    path = tmp_path / "a.pb"
    path.write_bytes(framed([PAYLOADS[0], b"\x0a\x7f\xff", PAYLOADS[1]]))
    found, problems = read(path)
    assert len(found) == len(otlp_spans(PAYLOADS[0])) + len(otlp_spans(PAYLOADS[1]))
    assert [problem.place for problem in problems] == ["message 2"]


@pytest.mark.parametrize("name", ["spans.pb", "varint.pb", "spans.jsonl.gz", "spans.pb.zst"])
def test_of_a_file_that_is_cut_short_all_before_is_read(name, tmp_path):
    path = write(tmp_path, name, [sent.payload for sent in recording()])
    whole, _ = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    found, problems = read(path)
    assert len(whole) // 3 < len(found) < len(whole)
    assert any("cut short" in str(one) or "Truncated" in str(one) for one in problems)


def test_an_array_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path):
    path = write(tmp_path, "zipkin.json", PAYLOADS)
    whole, _ = read(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found, problems = read(path)
    assert len(whole) // 3 < len(found) < len(whole)
    assert "cut short" in str(problems[-1])


@pytest.mark.parametrize(
    "content",
    [b"root:x:0:0\nbin:x:1:1\n", b"\x00\x00\x00\x05abcde", b"\x7fELF" + bytes(500), b'{"a": 1}'],
)
def test_what_is_no_recording_is_refused(content, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="other"):
        read(path)


def test_jaegers_json_is_named(tmp_path):
    path = tmp_path / "jaeger.json"
    path.write_text('{"data": [{"traceID": "1", "spans": [{"spanID": "2"}]}]}')
    with pytest.raises(RecordingError, match="Jaeger"):
        read(path)


def test_an_empty_file_has_no_spans_and_an_absent_one_is_told(tmp_path):
    (tmp_path / "empty").write_bytes(b" \n")
    assert read(tmp_path / "empty") == ([], [])
    with pytest.raises(RecordingError, match="No such file"):
        read(tmp_path / "absent")


def test_a_file_whose_first_line_is_damaged_is_still_one_of_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"resourceSpans": [{"sco\n' + json_lines(PAYLOADS[:2]))
    found, problems = read(path)
    assert found
    assert [problem.place for problem in problems] == ["line 1"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_pieces_are_the_same_however_a_stream_comes(size):
    texts = [b"a", b"", b"x" * 300, b'{"a": 1}']
    assert [piece for _, piece in messages(stepwise(framed(texts), size), varint=False)] == texts
    delimited = b"".join(varint(len(one)) + one for one in texts)
    assert [piece for _, piece in messages(stepwise(delimited, size), varint=True)] == texts
    assert list(lines(stepwise(b"a\n\n b \r\nc", size))) == [(1, b"a"), (3, b"b"), (4, b"c")]


def test_a_length_that_makes_no_sense_ends_the_reading():
    content = framed([b"abc"]) + b"\xff\xff\xff\xffabc"
    pieces = messages(stepwise(content, 4), varint=False)
    assert next(pieces) == (1, b"abc")
    with pytest.raises(FramingError, match="no length") as caught:
        next(pieces)
    assert caught.value.at == 2


def test_a_line_without_an_end_is_not_held(monkeypatch):
    monkeypatch.setattr(framing, "MAX_PIECE_BYTES", 10)
    pieces = list(lines(stepwise(b"a\n" + b"x" * 100 + b"\nb\n", 4)))
    assert pieces == [(1, b"a"), (2, framing.TOO_LONG), (3, b"b")]
    with pytest.raises(FramingError):
        list(items(stepwise(b"[{" + b"x" * 100, 4), depth=1))
    with pytest.raises(FramingError):
        list(framing.whole(stepwise(b"x" * 100, 4)))


def test_large_recordings_are_decoded_by_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("heatshield_collector.recordings.read.PARALLEL_BYTES", 0)
    monkeypatch.setattr("heatshield_collector.recordings.read.CHUNK_BYTES", 20_000)
    path = write(tmp_path, "spans.jsonl", PAYLOADS)
    found, problems = read(path)
    assert problems == []
    assert len(found) == sum(len(otlp_spans(one)) for one in PAYLOADS)


def test_spans_of_one_end_come_in_the_order_of_the_files():
    rows = [
        (bytes([n]) * 16, bytes([n]) * 8, b"", "s", "", "op", 2, 5, 1, 0, *[None] * 11)
        for n in range(1, 9)
    ]
    with SortedSpans(run_spans=3) as spans:
        for row in rows:
            spans.add(detected_table([row]))
        found = [span for _, table in spans.chunks() for span in table["span_id"].to_pylist()]
    assert found == [row[DETECTED.names.index("span_id")] for row in rows]
