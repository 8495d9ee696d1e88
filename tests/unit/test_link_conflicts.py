"""Who is charged where spans of one trace name different users."""

from span_rows import CLIENT, INTERNAL, MS, START_NS, span, table

from heatshield.clock import Instant
from heatshield_collector.link import Linker


def at(seconds=0):
    return Instant(1_000.0 + seconds, START_NS + seconds * 10**9)


def test_spans_that_disagree_are_charged_to_whom_their_own_service_named():
    """Two accounts that share a trace id must not keep each other from being cut."""
    linker, rows = (
        Linker(),
        [
            span(1, user="a"),
            span(2, parent=1, kind=CLIENT, backend="redis", duration_ns=MS),
            span(3, user="b"),
            span(4, parent=3, kind=INTERNAL, duration_ns=2 * MS),
            span(5, parent=4, service="talk", duration_ns=MS),
            span(6, trace=2, user="a"),
        ],
    )
    for _ in range(2):
        found = linker.link(table(rows), at()).charges.to_pylist()
        assert [(row["user"], row["service"], row["eligible"]) for row in found] == [
            ("a", "shop", True),
            ("a", "shop", True),
            ("b", "shop", True),
            ("b", "shop", True),
            ("a", "talk", False),  # of this service nobody has said who acts
            ("a", "shop", True),
        ]
        linker = Linker()
        linker.link(
            table([span(7, user="b", duration_ns=0), span(8, user="a", duration_ns=0)]), at()
        )


def test_both_users_of_a_shared_trace_id_are_charged_in_whatever_batches_they_come():
    """All requests of both accounts bear one trace id, for ever."""
    linker, totals = Linker(), {"a": 0.0, "b": 0.0}
    for number in range(1, 41):
        user = "ab"[number % 2]
        for row in linker.link(table([span(number, user=user)]), at(number)).charges.to_pylist():
            assert (row["user"], row["eligible"]) == (user, True)
            totals[user] += row["busy_us"] / 1_000
    assert totals == {"a": 200.0, "b": 200.0}


def torn():
    """A linker that knows that two users share a trace."""
    linker = Linker()
    linker.link(table([span(7, user="b", duration_ns=0), span(8, user="a", duration_ns=0)]), at())
    return linker


def child(number=2, parent=1, **columns):
    return span(number, parent=parent, kind=CLIENT, backend="redis", duration_ns=MS, **columns)


def found(linked):
    return [(row["user"], row["busy_us"], row["eligible"]) for row in linked.charges.to_pylist()]


def test_a_child_that_came_first_is_charged_to_whom_the_span_above_it_names():
    """Children end first, and a batch may end between them."""
    linker = torn()
    assert found(linker.link(table([child(3, parent=2), child(5, parent=4)]), at())) == []
    rows = [span(2, parent=1, kind=INTERNAL, duration_ns=3 * MS), span(1, user="b")]
    assert found(linker.link(table(rows), at(1))) == [
        ("b", 2_000, True), ("b", 7_000, True), ("b", 1_000, True),
    ]  # fmt: skip
    assert found(linker.overdue(at(2))) == [("a", 1_000, False)]  # nobody named its parent
    assert found(linker.overdue(at(3))) == []


def test_a_child_that_comes_late_is_charged_to_whom_the_span_above_it_has_named():
    linker = torn()
    linker.link(table([span(1, user="b"), span(4, parent=1, kind=INTERNAL)]), at())
    rows = [child(), child(5, parent=4), child(6, service="talk"), child(9, user="a")]
    assert found(linker.link(table(rows), at(59))) == [
        ("b", 1_000, True), ("b", 1_000, True), ("a", 1_000, True),
    ]  # fmt: skip
    assert found(linker.overdue(at(61))) == [("a", 1_000, False)]


def test_charges_that_wait_for_the_span_above_them_are_bounded(monkeypatch):
    monkeypatch.setattr("heatshield_collector.link.torn.WAITING_MOST", 2)
    linker = torn()
    rows = [child(number, parent=number + 100) for number in range(10, 15)]
    assert found(linker.link(table(rows), at())) == [("a", 1_000, False)] * 3
