"""The contract's JSON: what is written reads back, and nothing else is read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.contract import (
    MAX_LEASE_MS,
    MAX_REJECTIONS,
    MAX_WAIT_MS,
    MAX_WAITING,
    MAX_WORKERS,
    BreakerEntry,
    BreakerMode,
    ContractError,
    Delta,
    PlatformMode,
    Rejections,
    Report,
    Snapshot,
    StateVersion,
    decode,
)

names = st.text(
    st.characters(categories=("L", "N", "P", "S"), exclude_characters="*"), min_size=1, max_size=20
)
ids = st.from_regex(r"[!-~]{1,256}", fullmatch=True)
versions = st.builds(StateVersion, st.integers(0, 2**40), st.integers(0, 2**40))
entries = st.builds(
    BreakerEntry,
    id=ids,
    user=names | st.just("*"),
    service=names,
    call=names,
    mode=st.sampled_from(BreakerMode),
    lease_ms=st.integers(1, MAX_LEASE_MS),
    issuer=names,
    reason=st.text(),
    evidence=st.dictionaries(st.text(), st.text() | st.integers()),
    rate_per_s=st.floats(0, 1e6),
    tenant=names,
    seq=st.integers(0, 2**40),
    budget=st.floats(1e-6, 1e6),
    cost_per_call=st.floats(0, 1e6),
    waiting=st.integers(0, MAX_WAITING),
    wait_ms=st.integers(0, MAX_WAIT_MS),
    instances=st.integers(1, 10_000),
    prober=st.text(),
    probe_per_s=st.floats(0, 1e6),
)
snapshots = st.builds(
    Snapshot, versions, st.sampled_from(PlatformMode), st.lists(entries, max_size=4).map(tuple)
)
deltas = st.builds(
    lambda base, ahead, mode, upsert, remove: Delta(
        base, StateVersion(base.epoch, base.version + ahead), mode, tuple(upsert), tuple(remove)
    ),
    versions,
    st.integers(1, 9),
    st.sampled_from(PlatformMode),
    st.lists(entries, max_size=3),
    st.lists(st.text(), max_size=3),
)
reports = st.builds(
    Report,
    names,
    names,
    st.integers(0, 99),
    st.none() | versions,
    st.lists(
        st.builds(Rejections, names, st.integers(0, 10**9), names, names, names), max_size=3
    ).map(tuple),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(snapshots | deltas | reports)
def test_what_is_written_reads_back(value):
    assert type(value).from_json(decode(json.dumps(value.to_json()))) == value


@given(reports, st.integers(), st.integers())
def test_a_report_s_counts_and_workers_are_brought_into_their_range(report, count, workers):
    row = {"id": "b", "user": "u", "service": "s", "call": "c", "count": count}
    read = Report.from_json({**report.to_json(), "workers": workers, "rejected": [row]})
    assert read.workers == min(max(workers, 0), MAX_WORKERS)
    assert read.rejected[0].count == min(max(count, 0), MAX_REJECTIONS)


@pytest.mark.parametrize("field", ["workers", "count"])
def test_a_number_of_hundreds_of_digits_is_brought_into_its_range(field):
    row = {"id": "b", "user": "u", "service": "s", "call": "c", "count": 1}
    document = {"service": "s", "instance": "i", "workers": 1, "rejected": [row]}
    (document if field == "workers" else row)[field] = 10**400
    read = Report.from_json(document)
    assert (read.workers, read.rejected[0].count) in {(MAX_WORKERS, 1), (1, MAX_REJECTIONS)}


@given(json_values, st.sampled_from([Snapshot, Delta, Report, BreakerEntry]))
def test_garbage_raises_contract_error_and_nothing_else(value, kind):
    with pytest.raises(ContractError):
        kind.from_json(value)


@given(snapshots.filter(lambda s: s.entries), st.data())
def test_one_bad_field_in_one_entry_spoils_the_snapshot(snapshot, data):
    """Invariant 11: a snapshot is taken whole or not at all."""
    document = snapshot.to_json()
    field = data.draw(
        st.sampled_from(["id", "user", "service", "call", "mode", "lease_ms", "issuer"])
    )
    bad = data.draw(st.sampled_from([None, "", 0, -1, [], {}, True, 10**9, "*"]))
    if field in ("id", "user", "issuer") and bad == "*":
        bad = None
    document["entries"][0][field] = bad
    with pytest.raises(ContractError):
        Snapshot.from_json(document)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("id", "b\x00"),
        ("id", "b\r\nx: y"),
        ("id", "b 1"),
        ("id", "bé"),
        ("id", "b" * 257),
        ("id", "b" * 100_000),
        ("user", "u\x00"),
        ("user", "u" * 257),
        ("service", "s\n"),
        ("call", "c" * 100_000),
    ],
)
def test_what_no_header_can_carry_is_no_entry(field, bad):
    entry = BreakerEntry("b-1", "u", "s", "c", issuer="rule:R")
    document = Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,)).to_json()
    assert Snapshot.from_json(document).entries == (entry,)
    document["entries"][0][field] = bad
    with pytest.raises(ContractError):
        Snapshot.from_json(document)


@given(deltas, st.integers(0, 5))
def test_a_delta_that_does_not_go_forward_is_refused(delta, back):
    document = delta.to_json()
    document["epoch"], document["version"] = delta.base.epoch, max(0, delta.base.version - back)
    with pytest.raises(ContractError):
        Delta.from_json(document)


@given(versions)
def test_a_version_survives_its_etag(at):
    assert StateVersion.parse(at.etag) == at
    assert StateVersion.parse(f"W/{at.etag}") == at


@given(st.text())
def test_a_version_is_two_numbers_or_an_error(text):
    try:
        at = StateVersion.parse(text)
    except ContractError:
        return
    assert min(at) >= 0


@pytest.mark.parametrize("text", [b"\xff", b"{", b"[" * 100_000, b""])
def test_bytes_that_are_no_json_are_a_contract_error(text):
    with pytest.raises(ContractError):
        decode(text)


def test_a_version_of_thousands_of_digits_is_refused_as_a_contract_error():
    with pytest.raises(ContractError):
        StateVersion.parse(f"{'9' * 5_000}.1")
