"""A charge report is read back as it was written, and nothing else is read at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.charge_report import (
    MAX_BUCKET,
    BackendDurationCount,
    BackendTime,
    ChargeReport,
    DurationCount,
    Operation,
    Pair,
    ProcessState,
    bucket_of,
    bucket_us,
)
from heatshield.contract import ContractError

COUNTS = st.integers(0, 1 << 40)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def reports(draw: st.DrawFn) -> ChargeReport:
    """Reports with every table."""
    pair = st.builds(
        Pair,
        st.none() | st.just("") | NAMES,
        NAMES,
        *(COUNTS for _ in range(7)),
        traces=st.lists(NAMES, max_size=3).map(tuple),
    )
    pairs = draw(st.lists(pair, max_size=5))
    place = st.integers(0, max(0, len(pairs) - 1))
    most = 4 if pairs else 0
    return ChargeReport(
        draw(NAMES),
        draw(NAMES),
        draw(COUNTS),
        draw(COUNTS),
        draw(st.floats(0, 3_600)),
        ProcessState(*draw(st.tuples(COUNTS, st.floats(0, 64), *(COUNTS for _ in range(5))))),
        pairs,
        draw(st.lists(st.builds(BackendTime, place, NAMES, COUNTS, COUNTS), max_size=most)),
        draw(
            st.lists(
                st.builds(BackendDurationCount, NAMES, st.integers(0, MAX_BUCKET), COUNTS),
                max_size=4,
            )
        ),
        draw(
            st.lists(
                st.builds(DurationCount, place, st.integers(0, MAX_BUCKET), COUNTS, st.booleans()),
                max_size=most,
            )
        ),
        draw(
            st.lists(st.builds(Operation, place, NAMES, COUNTS, st.none() | COUNTS), max_size=most)
        ),
    )


@given(reports())
def test_a_report_is_read_back_as_it_was_written(report: ChargeReport) -> None:
    assert ChargeReport.from_json(json.loads(json.dumps(report.to_json()))) == report


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(reports(), st.data())
def test_what_is_no_report_is_refused_with_a_contract_error(
    report: ChargeReport, data: st.DataObject
) -> None:
    said = report.to_json()
    spoilt = data.draw(st.sampled_from(sorted(said)))
    said[spoilt] = data.draw(JSON)
    try:
        ChargeReport.from_json(said)
    except ContractError:
        return
    ChargeReport.from_json(ChargeReport.from_json(said).to_json())


@pytest.mark.parametrize("us", [1, 2, 3, 900, 80_000, 4_000_000])
def test_the_middle_of_its_bucket_is_within_a_tenth_of_a_duration(us: int) -> None:
    assert bucket_us(bucket_of(us)) == pytest.approx(us, rel=0.1)
