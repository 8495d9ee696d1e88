"""What the network may bring: odd but valid encodings, damaged payloads, attacks on the parser."""

import pytest
from decoded_rows import exact, rows_of
from google.protobuf.message import DecodeError as ProtobufError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otlp_payloads import log_payloads, trace_payloads
from reference_decoder import reference_logs, reference_spans
from wire import (
    array,
    arrays_within,
    attribute,
    fixed64,
    groups,
    integer,
    kvlist,
    nested,
    number,
    one_span,
    text,
    varint,
)

from heatshield.names import TEXT_MENDED
from heatshield_collector.decode import (
    DecodeError,
    decode_logs,
    decode_metrics,
    decode_traces,
    mending,
)

RECEIVED_NS = 5

ODD_BUT_VALID = {
    "nothing": b"",
    "a message field twice is merged": one_span(
        nested(15, number(3, 2)), nested(15, nested(2, b"why"))
    ),
    "a number twice: the last counts": one_span(nested(15, number(3, 2), number(3, 1))),
    "a string twice: the last counts": one_span(nested(5, b"a"), nested(5, b"b")),
    "a resource twice is merged": one_span(
        resource=nested(1, nested(1, nested(1, b"a"), nested(2, text(b"x"))))
        + nested(1, nested(1, nested(1, b"service.name"), nested(2, text(b"shop"))))
    ),
    "a scope twice is merged": one_span(scope=nested(1, nested(1, b"n")) + nested(1, text(b"v"))),
    "a value twice, of two kinds": one_span(attribute(b"k", text(b"s"), integer(5))),
    "a value twice, of one kind": one_span(attribute(b"k", integer(5), integer(6))),
    "two kvlists are merged": one_span(attribute(b"k", kvlist(b"a"), kvlist(b"b"))),
    "two arrays are merged": one_span(attribute(b"k", array(integer(1)) + array(integer(2)))),
    "the value before its key": one_span(nested(9, nested(2, integer(1)), nested(1, b"k"))),
    "a key twice: the last counts": one_span(
        nested(9, nested(1, b"k"), nested(1, b"l"), nested(2, integer(1)))
    ),
    "no key": one_span(nested(9, nested(2, integer(1)))),
    "true as 2": one_span(attribute(b"k", number(2, 2))),
    "true as 2^40": one_span(attribute(b"k", number(2, 2**40))),
    "a kind of 33 bits": one_span(number(6, 2**32 + 2)),
    "a negative kind": one_span(number(6, 2**64 - 1)),
    "a count of 33 bits": one_span(number(10, 2**32 + 2)),
    "a number with idle bytes": one_span(varint(10 << 3) + b"\x81\x80\x80\x00"),
    "a number whose tenth byte is too large": one_span(
        varint(10 << 3) + b"\x81" + b"\x80" * 8 + b"\x7f"
    ),
    "a tag with idle bytes": one_span(b"\xd0\x80\x80\x00\x05"),
    "a length with idle bytes": b"\x0a\x80\x00",
    "a number where bytes are due": one_span(number(5, 7)),
    "bytes where a time is due": one_span(nested(7, b"abc")),
    "a time where a number is due": one_span(fixed64(6, 2)),
    "a packed kind": one_span(nested(6, b"\x02")),
    "a number where a value is due": one_span(nested(9, nested(1, b"k"), number(2, 3))),
    "the largest field number": number(2**29 - 1, 1),
    "a NUL in a key": one_span(attribute(b"a\0b", integer(1))),
    "groups, 100 deep": groups(100),
    "arrays, 47 deep": one_span(attribute(b"k", arrays_within(47))),
}

INVALID = {
    "a field number of 0": b"\x00\x00",
    "a field number of 30 bits": number(2**29, 0),
    "a tag of 33 bits": varint(2**32 + 10) + b"\x00",
    "wire type 6": b"\x0e\x00",
    "wire type 7": b"\x0f\x00",
    "a number of eleven bytes": one_span(varint(10 << 3) + b"\x81" + b"\x80" * 9 + b"\x00"),
    "a group that another one closes": b"\x0bT",
    "no message nested in a scope": one_span(
        scope=nested(1, nested(3, nested(1, b"k"), nested(2, nested(5, nested(1, b"\xff\xff")))))
    ),
    "arrays, 48 deep": one_span(attribute(b"k", arrays_within(48))),
    "arrays, 5000 deep": one_span(attribute(b"k", arrays_within(5000))),
    # 200,000 levels end the process where a parser recurses without a limit.
    "groups, 5000 deep": groups(5000),
}

MENDED = {
    "no UTF-8 in a name": one_span(nested(5, b"\xff")),
    "a surrogate in a name": one_span(nested(5, b"\xed\xa0\x80")),
    "no UTF-8 in a key": one_span(attribute(b"\xff")),
    "no UTF-8 in a value": one_span(attribute(b"k", text(b"\xff"))),
    "no UTF-8 in a nested value": one_span(attribute(b"k", array(text(b"\xff")))),
    "no UTF-8 in a nested key": one_span(attribute(b"k", kvlist(b"\xff"))),
    "no UTF-8 in a scope": one_span(scope=nested(1, text(b"\xff"))),
    "no UTF-8 in a resource": one_span(
        resource=nested(1, nested(1, nested(1, b"a"), nested(2, text(b"\xff"))))
    ),
    "no UTF-8 in an event's attribute": one_span(
        nested(11, nested(3, nested(1, b"k"), nested(2, text(b"\xff"))))
    ),
}

GOOD_ID = b"g" * 8
GOOD = nested(2, nested(1, b"t" * 16), nested(2, GOOD_ID))
DAMAGED = {
    "a record cut short": nested(2, nested(1, b"t" * 16)[:-1]),
    "a field number of 0": nested(2, b"\x00\x00"),
    "a nested message cut short": nested(2, nested(9, b"\x0a\x05a")),
    "groups, 5000 deep": nested(2, groups(5000)),
    "arrays, 5000 deep": nested(2, attribute(b"k", arrays_within(5000))),
    "arrays, 48 deep": nested(2, attribute(b"k", arrays_within(48))),
    "no UTF-8 in arrays, 48 deep": nested(
        2, nested(5, b"\xff"), attribute(b"k", arrays_within(48))
    ),
}


def judge(signal: str, payload: bytes) -> None:
    """Both decoders refuse the payload, or both make the same of it."""
    reference, decode = (
        (reference_spans, decode_traces) if signal == "traces" else (reference_logs, decode_logs)
    )
    try:
        expected, rejected = reference([payload], RECEIVED_NS)
    except ProtobufError:
        try:
            saved = decode([payload], RECEIVED_NS)
        except DecodeError:
            return
        assert saved.rejected[0] or saved.mended[0], "protobuf refuses it: the sender is told"
        return
    try:
        decoded = decode([payload], RECEIVED_NS)
    except DecodeError as error:
        if "invalid field number 0" in str(error):
            return  # the one known difference in what is refused, see below
        raise
    assert exact(rows_of(decoded.table, decoded.resources)) == exact(expected)
    assert decoded.rejected == rejected


@pytest.mark.parametrize("payload", ODD_BUT_VALID.values(), ids=ODD_BUT_VALID.keys())
def test_an_odd_encoding_means_what_protobuf_says(payload: bytes) -> None:
    decode_traces([payload], RECEIVED_NS)
    judge("traces", payload)


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_payload_is_refused_as_protobuf_does(payload: bytes) -> None:
    with pytest.raises(ProtobufError):
        reference_spans([payload], RECEIVED_NS)
    with pytest.raises(DecodeError):
        decode_traces([one_span(), payload], RECEIVED_NS)


@pytest.mark.parametrize("payload", MENDED.values(), ids=MENDED.keys())
def test_a_text_that_is_no_unicode_is_mended_and_marked(payload: bytes) -> None:
    """One byte must not cost the sender the others of its batch."""
    with pytest.raises(ProtobufError):
        reference_spans([payload], RECEIVED_NS)
    decoded = decode_traces([one_span(), payload], RECEIVED_NS)
    assert (decoded.rejected, decoded.mended) == ([0, 0], [0, 1])
    _, row = rows_of(decoded.table, decoded.resources)
    assert "\ufffd" in str(row)
    marked = TEXT_MENDED in row["attributes"] or TEXT_MENDED in row["resource"]
    assert marked or "\ufffd" in row["scope"]  # of a scope the name alone is kept


@pytest.mark.parametrize("record", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_record_alone_is_left_out(record: bytes) -> None:
    payload = nested(1, nested(2, GOOD, record, GOOD))
    decoded = decode_traces([one_span(), payload], RECEIVED_NS)
    assert (decoded.rejected, decoded.mended) == ([0, 1], [0, 0])
    assert decoded.table.column("span_id").to_pylist() == [b"s" * 8, GOOD_ID, GOOD_ID]


def test_texts_of_logs_and_metrics_are_mended_too() -> None:
    decoded = decode_logs(
        [nested(1, nested(2, nested(2, nested(5, text(b"a\xffb")))))], RECEIVED_NS
    )
    assert decoded.table.column("body").to_pylist() == ["a\ufffdb"]
    point = nested(7, nested(1, b"k"), nested(2, text(b"\xff")))
    metric = nested(2, nested(1, b"n\xff"), nested(5, nested(1, point, fixed64(6, 1))))
    decoded = decode_metrics([nested(1, nested(2, metric))], RECEIVED_NS)
    assert decoded.mended == [1]
    assert decoded.series.column("name").to_pylist() == ["n\ufffd"]


@pytest.mark.parametrize("damage", [nested(5, b"\xff"), b"\x00\x00"], ids=["mended", "left out"])
def test_a_payload_of_very_many_damaged_records_is_refused(monkeypatch, damage) -> None:
    """Each takes Python; so many are no accident."""
    monkeypatch.setattr(mending, "MAX_MENDED", 2)
    bad = nested(2, nested(1, b"t" * 16), nested(2, b"s" * 8), damage)
    decoded = decode_traces([nested(1, nested(2, bad * 2, GOOD))], RECEIVED_NS)
    assert decoded.mended[0] + decoded.rejected[0] == 2
    with pytest.raises(DecodeError, match="more than 2 records are damaged"):
        decode_traces([nested(1, nested(2, bad * 3, GOOD))], RECEIVED_NS)


@pytest.mark.parametrize(
    "payload",
    [nested(1) * 10_001, nested(1, nested(2) * 10_001), nested(1, nested(2) * 2) * 5_001],
    ids=["resources", "scopes of one", "scopes of several"],
)
@pytest.mark.parametrize("decode", [decode_traces, decode_logs])
def test_a_payload_of_too_many_resources_or_scopes_alone_is_bad(decode, payload: bytes) -> None:
    """Millions of them fit into a few kilobytes compressed, and would stall the decode thread."""
    allowed = nested(1, nested(2)) * 10_000
    with pytest.raises(DecodeError, match="more than 10000 resources or scopes") as raised:
        decode([allowed, payload], RECEIVED_NS)
    assert list(raised.value.bad) == [1]


def test_of_two_kinds_in_one_value_the_later_defined_stands() -> None:
    """A known difference: protobuf takes the later written. No encoder writes both."""
    payload = one_span(attribute(b"k", integer(5) + text(b"s")))
    assert reference_spans([payload], RECEIVED_NS)[0][0]["attributes"] == {"k": "s"}
    decoded = decode_traces([payload], RECEIVED_NS)
    assert rows_of(decoded.table, decoded.resources)[0]["attributes"] == {"k": 5}


def test_a_field_number_of_0_within_a_group_is_refused() -> None:
    """A known difference: protobuf skips over it. OTLP has no groups."""
    payload = b"\xc3\x3e\x00\x01\xc4\x3e"
    reference_spans([payload], RECEIVED_NS)
    with pytest.raises(DecodeError):
        decode_traces([payload], RECEIVED_NS)


damage = st.lists(
    st.tuples(
        st.sampled_from(("cut", "drop", "insert", "replace", "flip")),
        st.floats(0, 1, exclude_max=True),  # where, as a share of the payload
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def damaged(payload: bytes, steps: list[tuple[str, float, bytes]]) -> bytes:
    for step, where, extra in steps:
        at = int(where * len(payload))
        head, tail = payload[:at], payload[at:]
        match step:
            case "cut":
                payload = head
            case "drop":
                payload = head + tail[len(extra) :]
            case "insert":
                payload = head + extra + tail
            case "replace":
                payload = head + extra + tail[len(extra) :]
            case _:  # one bit
                payload = head + bytes(byte ^ 1 << extra[0] % 8 for byte in tail[:1]) + tail[1:]
    return payload


thorough = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@thorough
@given(trace_payloads, damage)
def test_damaged_traces_decode_as_the_reference_says_or_are_refused(payload, steps) -> None:
    judge("traces", damaged(payload, steps))


@thorough
@given(log_payloads, damage)
def test_damaged_logs_decode_as_the_reference_says_or_are_refused(payload, steps) -> None:
    judge("logs", damaged(payload, steps))
