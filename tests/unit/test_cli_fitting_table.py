"""Tables on terminals of any width, and in pipes: columns go, what is left is whole."""

import io
import itertools

import pytest
from rich.console import Console
from rich.text import Text

from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.metric_tables import series_table
from heatshield.cli.tables import breaker_table, hot_table
from heatshield.cli.terminal import PIPE_WIDTH, number

ALIAS = "hs1-" + 8 * "0badcafe"
CALL = "POST /purchases/{user}/items/{item}"


def lines(renderable, width):
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(renderable)
    return console.file.getvalue().splitlines()


def letters(found):
    """All that is shown, without the breaks of lines."""
    return "".join("".join(found).split())


def hot(**fields):
    row = {
        "user": ALIAS, "service": "shop", "call": CALL, "load": 1.5, "lower": 1.5, "upper": 1.5,
        "share": 0.375, "baseline": 0.000841, "class": "hot", "breaker": "b-8",
        "trace_id": "ab" * 16,
    }  # fmt: skip
    return hot_table(
        {"cost": "busy", "window": "10s", "at_ns": 0, "capacity": 4.0, "users": [row | fields]}
    )


def breakers(reason="burns 2.1 of 4 workers, 40 times the user's own usual load"):
    entry = {
        "id": "b-8", "user": "u-1", "service": "shop", "call": CALL, "mode": "reject",
        "lease_ms": 30_000, "issuer": "rule:HarmfulUser", "reason": reason,
    }  # fmt: skip
    return breaker_table({"epoch": 1, "version": 2, "mode": "protect", "entries": [entry]})


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_no_terminal_is_too_narrow_for_user_call_class_and_breaker(width):
    shown = lines(hot(), width)
    assert all(len(line) <= width for line in shown)
    assert "…" not in "".join(shown)
    if width >= 60:
        (row, *_) = [line for line in shown if line.startswith("hs1-")]
        assert all(part in row for part in ("hot", "b-8"))


def test_what_does_not_fit_though_all_other_columns_are_gone_is_folded():
    table = FittingTable([Column("a"), Column("b", drops=1)], [[Text("x" * 30), Text("y")]])
    assert letters(lines(table, 20)) == "a" + "x" * 30


def test_at_eighty_columns_a_row_of_ordinary_names_is_one_line_with_all_that_matters():
    (row,) = [line for line in lines(hot(user="u-1"), 80) if line.startswith("u-1")]
    assert all(part in row for part in (CALL, "hot", "b-8", "1.50"))


def test_the_least_telling_columns_go_first():
    heads = [lines(hot(user="u-1"), width)[1].split() for width in (140, 79, 72, 63, 57)]
    assert heads[0] == ["user", "service", "call", "load", "share", "usual", "class", "breaker"]
    gone = [set(before) - set(after) for before, after in itertools.pairwise(heads)]
    assert gone == [{"usual"}, {"share"}, {"service"}, {"load"}]


def test_a_reason_that_does_not_fit_follows_the_table_in_whole_lines():
    wide, narrow = lines(breakers(), 200), lines(breakers(), 80)
    assert any("reject" in line and "burns 2.1" in line for line in wide)
    (row,) = [line for line in narrow if "reject" in line]
    assert CALL in row
    assert any(line.startswith("b-8: burns 2.1 of 4 workers, 40 times") for line in narrow)


def test_what_is_piped_is_one_line_a_row_however_long():
    (row,) = [line for line in lines(breakers("so " * 200), PIPE_WIDTH) if "reject" in line]
    assert row.count("so ") >= 199
    (row,) = [line for line in lines(hot(user="u" * 256), PIPE_WIDTH) if line.startswith("uuu")]
    assert "u" * 256 in row


def series(**labels):
    return {
        "name": "http_requests_total", "kind": "sum", "unit": "1", "description": "Requests.",
        "service": "shop", "instance": "0badcafe-1", "attributes": labels, "time_ns": 0,
        "value": 3.33e-05, "count": None, "exemplars": [],
    }  # fmt: skip


def test_series_show_the_label_that_differs_and_once_those_that_do_not():
    same = {f"net.host.label_{number}": "x" * 20 for number in range(5)}
    answer = {"metrics": [series(**same, code=code) for code in ("200", "404")]}
    shown = lines(series_table(answer), 80)
    for code in ("200", "404"):
        (row,) = [line for line in shown if f"code={code}" in line]
        assert "<0.0001" in row
        assert "label_0" not in row
    assert letters(shown).count("net.host.label_0=") == 1
    assert "label_0" in letters(lines(series_table({"metrics": [series(**same)]}), 80))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (0.000841, "<0.01"), (-0.001, ">-0.01"), (0.084, "0.084"), (0.5, "0.50"),
        (1.234, "1.23"), (12_345.6, "12,346"), (4.0, "4"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_are_rounded_for_people(value, shown):
    assert number(value) == shown
