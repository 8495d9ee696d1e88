"""Sums of charges, and the texts of their keys, row by row and all at once."""

from collections import Counter

import pyarrow as pa
import pytest
from charge_rows import charge, charge_table
from hypothesis import given
from hypothesis import strategies as st

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield_collector.link import charge_sums
from heatshield_collector.link.charge_sums import by_call, by_request, key_texts, sums

names = st.text(st.sampled_from("ab\x1f\x1eü"), max_size=5)
users = st.none() | names | st.just("unknown")
keys = st.builds(CallKey, tenant=names, user=users, service=names, call=names)


@given(st.lists(keys, max_size=8))
def test_texts_of_many_keys_are_the_texts_of_each(rows):
    columns = (pa.array([row[part] for row in rows], pa.string()) for part in range(4))
    made = key_texts(*columns)
    assert made.to_pylist() == [row.text for row in rows]


def is_read_back(text, user):
    """Whether a text names this user and is the text of the key that it names."""
    key = CallKey.parse(text)
    return key.user == user and key.text == text


charges = st.lists(
    st.builds(
        charge,
        user=users,
        busy_ms=st.integers(0, 9),
        trace=st.integers(1, 3),
        service=names,
        call=names,
        backend=st.none() | names,
        operation=names,
        eligible=st.booleans(),
        transferred=st.booleans(),
    ),
    max_size=12,
)


@given(charges)
def test_every_sum_has_the_whole_cost_and_the_key_of_its_rows(rows):
    table = charge_table(rows)
    requests = by_request(table)
    for row in requests.to_pylist():
        key = CallKey(DEFAULT_TENANT, row["user"], row["service"], row["call"])
        assert row["key"] == key.text
        assert is_read_back(row["key"], row["user"])
    truth = Counter()
    for row in rows:
        truth[row["user"], "busy"] += row["busy_us"]
        truth[row["user"], "cpu" if row["backend"] is None else "backend"] += row["busy_us"]
    found = Counter()
    for row in requests.to_pylist():
        for cost in ("busy", "cpu", "backend"):
            found[CallKey.parse(row["key"]).user, cost] += row[f"{cost}_us"]
    assert found == truth


@given(charges)
def test_a_call_s_sum_leaves_out_what_was_transferred_and_names_the_backend(rows):
    truth = Counter()
    for row in rows:
        if row["transferred"]:
            continue
        at = (row["backend"], row["operation"]) if row["backend"] is not None else (
            row["service"], row["call"]
        )  # fmt: skip
        truth[CallKey(DEFAULT_TENANT, None, *at).text] += row["busy_us"]
    found = Counter()
    for row in by_call(charge_table(rows)).to_pylist():
        found[row["key"]] += row["busy_us"]
    assert found == truth


@given(charges)
def test_few_rows_are_summed_as_many_are(rows):
    table, keys = charge_table(rows), ["user", "service", "call", "eligible"]
    few = sums(table, keys, ["trace_id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charge_sums, "FEW", -1)
        many = sums(table, keys, ["trace_id"])
    order = [(name, "ascending") for name in keys]
    assert few.sort_by(order).to_pylist() == many.sort_by(order).to_pylist()
    assert few.schema == many.schema
