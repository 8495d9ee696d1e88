"""The waterfall of a request: order, bars, marks, and text that can't reach the terminal raw."""

import io

import pytest
from rich.console import Console

from heatshield.cli.tree import SpanLine, lines
from heatshield.cli.waterfall import bar, request_view

MS = 1_000_000
START_NS = 1_700_000_000 * 10**9


def span(span_id, depth=0, *, start_ms=0, duration_ms=10, **fields):
    return {
        "span_id": span_id,
        "depth": depth,
        "service": "shop",
        "name": span_id,
        "kind": "server",
        "start_ns": START_NS + start_ms * MS,
        "duration_ns": duration_ms * MS,
        "self_ns": duration_ms * MS,
        "status": "unset",
        "status_message": "",
        "user": "u-1",
        "call": "buy",
        "rejected": None,
        "cost": {},
        "attributes": {},
        **fields,
    }


def log(body, span_id=None, *, at_ms=0, severity="INFO", **attributes):
    return {
        "time_ns": START_NS + at_ms * MS,
        "severity": severity,
        "body": body,
        "service": "shop",
        "span_id": span_id,
        "attributes": {name.replace("__", "."): value for name, value in attributes.items()},
    }


def linked(spans, logs=()):
    return {
        "trace_id": "ab" * 16,
        "user": "u-1",
        "user_from": "root",
        "start_ns": START_NS,
        "duration_ms": 1240.0,
        "services": ["gateway", "shop"],
        "cost": {"busy_s": 1.2, "calls": 2, "errors": 0, "elements": 20_000, "rows": 0},
        "spans": list(spans),
        "logs": list(logs),
    }


def rendered(request, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(request_view(request))
    return console.file.getvalue().splitlines()


def line_of(output, part):
    return next(line for line in output if part in line)


def names(spans, logs=()):
    return [
        (line.depth, line.span["name"] if isinstance(line, SpanLine) else line.log["body"])
        for line in lines(spans, logs)
    ]


def test_logs_stand_beneath_their_span_before_the_child_that_starts_after_them():
    spans = [
        span("root", 0, duration_ms=100),
        span("early", 1, start_ms=10),
        span("leaf", 2, start_ms=12),
        span("late", 1, start_ms=60),
        span("second root", 0, start_ms=200),
    ]
    logs = [
        log("between", "root", at_ms=30),
        log("first", "root", at_ms=1),
        log("in leaf", "leaf", at_ms=13),
        log("last", "root", at_ms=99),
        log("of second", "second root", at_ms=201),
    ]
    assert names(spans, logs) == [
        (0, "root"),
        (1, "first"),
        (1, "early"),
        (2, "leaf"),
        (3, "in leaf"),
        (1, "between"),
        (1, "late"),
        (1, "last"),
        (0, "second root"),
        (1, "of second"),
    ]


def test_logs_of_no_span_or_of_one_that_is_missing_come_last_by_time():
    logs = [log("gone", "no-such", at_ms=5), log("none", None, at_ms=2), log("x", "root")]
    assert names([span("root")], logs) == [(0, "root"), (1, "x"), (0, "none"), (0, "gone")]


def test_spans_that_share_an_id_are_both_shown_and_each_has_its_services_logs():
    """Zipkin's client and server sides of one call have one span id."""
    spans = [span("s", 0, service="gateway", name="c"), span("s", 1, service="shop", name="d")]
    logs = [log("here", "s"), {**log("there", "s"), "service": "gateway"}]
    assert names(spans, logs) == [(0, "c"), (1, "there"), (1, "d"), (2, "here")]


def test_a_chain_longer_than_the_python_stack_is_walked():
    chain = [span(f"s{n}", n, start_ms=n) for n in range(5_000)]
    assert [line.depth for line in lines(chain, [])] == list(range(5_000))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 100, "██████████"),
        (0, 50, "█████     "),
        (50, 50, "     █████"),
        (25, 50, "  █████   "),
        (0, 5, "▌         "),
        (0, 0, "▏         "),  # a span without duration is still seen
        (100, 0, "         ▏"),  # at the very end it stays inside
        (-20, 30, "███       "),  # skewed clocks don't push it out
    ],
)
def test_a_bar_is_scaled_to_the_request(offset, length, expected):
    assert bar(offset, length, 100, 10) == expected


def test_head_says_who_when_how_long_and_at_what_cost():
    head = "\n".join(rendered(linked([span("root")]))[:5])
    assert "ab" * 16 in head
    assert "u-1  (from root)" in head
    assert "2023-11-14 22:13:20.000 UTC, took 1.24 s" in head
    assert "gateway, shop" in head
    assert "1.20 s busy, 2 calls, 20,000 elements" in head
    assert "0 errors" not in head


def test_a_request_nobody_claimed_says_so():
    request = linked([span("root")]) | {"user": None, "user_from": None}
    assert any("user    (none)" in line for line in rendered(request))


def test_rows_show_bar_duration_self_time_and_elements_within_the_width():
    output = rendered(
        linked(
            [
                span("POST /purchases", duration_ms=1000, self_ns=2 * MS),
                span(
                    "SADD", 1, start_ms=500, duration_ms=500,
                    cost={"elements": 20_000},
                ),
            ]
        )
    )  # fmt: skip
    assert max(map(len, output)) <= 100
    root, leaf = line_of(output, "shop POST"), line_of(output, "shop SADD")
    assert root.split()[-2:] == ["2.0", "ms"]
    assert "1.00 s" in root
    assert leaf.split()[-1] == "20,000"
    assert leaf.startswith("  shop SADD")
    assert leaf.count("█") * 2 == root.count("█")
    assert leaf.index("█") > root.index("█")


def test_errors_and_rejections_are_marked_and_a_rejection_is_no_error():
    output = rendered(
        linked(
            [
                span("failed", status="error", status_message="pool exhausted"),
                span("cut", status="error", rejected="b-8"),
            ]
        )
    )
    assert any("✗ pool exhausted" in line for line in output)
    assert any("⊘ rejected by breaker b-8" in line for line in output)
    assert sum("✗" in line for line in output) == 1


def test_a_span_of_another_user_says_whose_it_is():
    output = rendered(linked([span("root"), span("other", 1, user="u-2")]))
    assert any(line.strip() == "user u-2" for line in output)
    assert not any(line.strip() == "user u-1" for line in output)


def test_logs_show_time_severity_and_body_beneath_their_span():
    output = rendered(linked([span("root")], [log("refreshed", "root", at_ms=123)]))
    assert "  · 22:13:20.123 INFO refreshed" in output


@pytest.mark.parametrize("where", ["name", "service", "user", "status_message"])
def test_control_sequences_of_a_span_never_reach_the_terminal(where):
    hostile = "\x1b]0;owned\x07\u202e\x9b31m[red]x"
    output = "\n".join(rendered(linked([span("root", status="error", **{where: hostile})])))
    assert not any(char in output for char in "\x1b\x07\x9b\u202e")
    assert "\\x1b]0;owned" in output


def test_control_sequences_of_a_log_never_reach_the_terminal():
    output = "\n".join(rendered(linked([span("r")], [log("a\nb\x1b[2J[bold]c", "r")])))
    assert "a\\nb\\x1b[2J[bold]c" in output


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_deep_request_fits_any_terminal(width):
    chain = [span(f"n{n}", n) for n in range(30)]
    spans = [line for line in rendered(linked(chain), width) if "shop" in line and "█" in line]
    assert all(len(line) <= width for line in spans)


def test_a_request_without_spans_shows_its_head():
    assert any("ab" * 16 in line for line in rendered(linked([])))


def test_a_log_shows_its_exception_and_no_newline_at_its_end():
    failed = log(
        "Exception in ASGI application\n", "root", severity="ERROR", exception__type="ValueError",
        exception__message="no such sticker\nat all", exception__stacktrace="Traceback ...",
        code__line__number=7, thread__name="MainThread",
    )  # fmt: skip
    output = rendered(linked([span("root")], [failed]))
    at = output.index(line_of(output, "Exception in ASGI application"))
    assert output[at].endswith(" ERROR Exception in ASGI application")
    assert output[at + 1].strip() == "✗ ValueError: no such sticker"
    assert "MainThread" not in "".join(output)


def test_a_log_whose_exception_is_a_rendered_stack_shows_its_last_line():
    failed = log("failed", "root", exception__stacktrace="Traceback ...\nKeyError: 'cat'\n")
    assert line_of(rendered(linked([span("root")], [failed])), "✗").strip() == "✗ KeyError: 'cat'"


@pytest.mark.parametrize("width", [100, 50])
def test_a_log_shows_its_fields_beside_it_or_beneath(width):
    placed = log("order placed", "root", order=17, shop="berlin", note="two\nlines")
    output = rendered(linked([span("root")], [placed]), width)
    assert line_of(output, "order placed")
    assert "order=17 shop=berlin note=two\\nlines" in line_of(output, "order=17")
    assert (line_of(output, "order placed") == line_of(output, "order=17")) == (width == 100)
    assert all(len(line) <= width for line in output)
