"""The page of charge reports: its JSON is the contract's, its figures are the code's."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

from heatshield import charge_report
from heatshield.charge_report import (
    MAX_OPERATIONS,
    MAX_PAIRS,
    MAX_TRACES,
    REPORT_S,
    ChargeReport,
    Pair,
    ProcessState,
    bucket_of,
)
from heatshield.charges import loop_clock, reporter
from heatshield.json_columns import MAX_ROWS
from heatshield.names import CHARGES_PATH

PAGE = (Path(__file__).parents[2] / "docs" / "charges.md").read_text(encoding="utf-8")
(REPORT,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))


def test_the_report_is_read_and_written_as_the_page_has_it():
    assert json.loads(json.dumps(ChargeReport.from_json(REPORT).to_json())) == REPORT


@pytest.mark.parametrize("table", ["pairs", "process"])
def test_every_column_is_explained(table):
    names = Pair._fields
    if table == "process":
        names = [field.name for field in dataclasses.fields(ProcessState)]
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert [name for name in names if not any(f"`{name}`" in row for row in rows)] == []


@pytest.mark.parametrize("table", ["backend_us", "backend_durations", "durations", "operations"])
def test_every_table_has_its_columns_on_the_page(table):
    (section,) = re.findall(rf"#+ [^\n]*`{table}`.*?(?=\n#|\Z)", PAGE, re.DOTALL)
    assert [name for name in REPORT[table] if f"`{name}`" not in section] == []


@pytest.mark.parametrize("us", [1, 2, 3, 999, 80_000, 4_000_000])
def test_buckets_are_as_the_page_says(us):
    assert bucket_of(us) == math.floor(4 * math.log2(us))
    assert 2 ** (bucket_of(us) / 4) <= us < 2 ** ((bucket_of(us) + 1) / 4)


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        (f"`POST {CHARGES_PATH}`", True),
        (f"Every {REPORT_S} s", True),
        ("every second otherwise", reporter.IDLE_S == 1),
        (f"within {reporter.EARLY_S} s of the last one", True),
        (f"sends none for {reporter.UNKNOWN_S:.0f} s", True),
        (f"At most {reporter.WAITING_MOST} reports wait", True),
        (f"The costliest {MAX_PAIRS} pairs", True),
        (f"at most {MAX_TRACES} trace ids", True),
        (f"The longest {MAX_OPERATIONS} of those", True),
        (f"at most {MAX_ROWS:,} rows", True),
        (f"at most {charge_report.MAX_BUCKET}", True),
        ("a hundred times a second", loop_clock.LOOK_S == 0.01),
    ],
)
def test_the_figures_are_those_of_the_code(said, is_so):
    assert said in PAGE
    assert is_so
