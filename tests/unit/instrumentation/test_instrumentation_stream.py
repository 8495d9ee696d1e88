"""The codecs of the breaker stream: any cut of the bytes gives the same events."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.breakers.server_sent_events import MAX_EVENT_BYTES, Event, Events
from heatshield.contract import ContractError
from heatshield.export.chunked import Chunks

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


def cut(data, at):
    edges = [0, *sorted({position % (len(data) + 1) for position in at}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def chunked(parts):
    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts if part)
    return body + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 10**6), max_size=12))
def test_chunks_come_back_whole_however_they_are_cut(parts, at):
    decoder = Chunks()
    received = b"".join(decoder.feed(piece) for piece in cut(chunked(parts), at))
    assert received == b"".join(parts)
    assert decoder.ended


@pytest.mark.parametrize("data", [b"xyz\r\n", b"-5\r\n", b"\r\n\r\n", b"1" * 2_000])
def test_a_chunk_without_a_size_is_a_contract_error(data):
    with pytest.raises(ContractError):
        Chunks().feed(data)


@given(
    st.lists(st.tuples(LINES, st.lists(LINES, min_size=1, max_size=3), LINES), max_size=4),
    st.lists(st.integers(0, 10**6), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
)
def test_events_come_back_however_they_are_cut(events, at, end):
    text = "".join(
        f"id: {name}{end}event: e{kind}{end}: a comment{end}"
        + "".join(f"data: {line}{end}" for line in lines)
        + end
        for kind, lines, name in events
    )
    decoder = Events()
    received = [event for piece in cut(text.encode(), at) for event in decoder.feed(piece)]
    assert received == [Event(f"e{kind}", "\n".join(lines), name) for kind, lines, name in events]


def test_an_id_stays_until_the_next_one():
    events = Events().feed(b"id: 1.2\nevent: a\ndata: 1\n\nevent: heartbeat\ndata: {}\n\n")
    assert [event.id for event in events] == ["1.2", "1.2"]


def test_an_endless_event_is_a_contract_error():
    decoder = Events()
    decoder.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 100))
    with pytest.raises(ContractError):
        decoder.feed(b"x" * 100)


def test_what_uvicorn_sends_is_read():
    body = f"event: snapshot\ndata: {json.dumps({'a': 1})}\n\n".encode()
    assert Events().feed(Chunks().feed(chunked([body]))) == [Event("snapshot", '{"a": 1}', "")]
