"""Whatever a request holds: nothing is lost or shown twice, and bars keep their width."""

import io
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from heatshield.cli.terminal import safe
from heatshield.cli.tree import LogLine, SpanLine, lines
from heatshield.cli.waterfall import bar, request_view

times_ns = st.integers(-(10**12), 2 * 10**18)
names = st.sampled_from(["", "a", "b", "c"])
texts = st.text(max_size=20)


@st.composite
def preorders(draw):
    """Spans with depths as a tree's preorder has them; ids and times may be anything."""
    spans, depth = [], -1
    for _ in range(draw(st.integers(0, 12))):
        depth = draw(st.integers(0, depth + 1))
        spans.append(
            {
                "span_id": draw(names),
                "depth": depth,
                "service": draw(names),
                "name": draw(texts),
                "start_ns": draw(times_ns),
                "duration_ns": draw(st.integers(0, 10**12)),
                "self_ns": draw(st.integers(0, 10**12)),
                "status": draw(st.sampled_from(["unset", "ok", "error"])),
                "status_message": draw(texts),
                "user": draw(st.none() | texts),
                "call": None,
                "rejected": draw(st.none() | texts),
                "cost": {"elements": draw(st.integers(0, 10**6))},
                "attributes": {},
            }
        )
    return spans


log_lists = st.lists(
    st.fixed_dictionaries(
        {
            "time_ns": times_ns,
            "severity": texts,
            "body": texts,
            "service": names,
            "span_id": st.none() | names,
            "attributes": st.dictionaries(
                texts | st.sampled_from(["exception.type", "exception.message", "order"]),
                texts | st.integers() | st.lists(texts, max_size=2),
                max_size=4,
            ),
        }
    ),
    max_size=12,
)


@given(preorders(), log_lists)
def test_every_span_and_log_is_shown_once_and_spans_in_their_order(spans, logs):
    walked = list(lines(spans, logs))
    assert [line.span for line in walked if isinstance(line, SpanLine)] == spans
    shown = Counter(id(line.log) for line in walked if isinstance(line, LogLine))
    assert shown == Counter(id(log) for log in logs)


@given(preorders(), log_lists)
def test_a_log_stands_one_deeper_than_the_span_it_belongs_to(spans, logs):
    path = []
    for line in lines(spans, logs):
        if isinstance(line, SpanLine):
            path[line.depth :] = [line.span]
        elif line.depth:
            assert path[line.depth - 1]["span_id"] == line.log["span_id"]
        else:
            assert line.log["span_id"] not in {span["span_id"] for span in spans}


@given(
    st.integers(-1_000, 10**15),
    st.integers(0, 10**15),
    st.integers(1, 10**15),
    st.integers(1, 300),
)
def test_a_bar_has_exactly_its_width_and_is_seen(offset, length, whole, width):
    drawn = bar(offset, length, whole, width)
    assert len(drawn) == width
    assert drawn.strip()


@given(preorders(), log_lists, st.integers(20, 200))
def test_no_request_breaks_the_view_or_reaches_the_terminal_raw(spans, logs, width):
    request = {
        "trace_id": "ab" * 16,
        "user": None,
        "user_from": None,
        "start_ns": 0,
        "duration_ms": 0.0,
        "services": [],
        "cost": {},
        "spans": spans,
        "logs": logs,
    }
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(request_view(request))
    shown = console.file.getvalue()
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert all(cell_len(line) <= width for line in shown.splitlines())


@given(st.text())
def test_safe_text_is_printable(value):
    assert safe(value).isprintable()
