"""The life of findings: what is one finding, what is told of it, and how many there may be."""

from dataclasses import replace

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.control.finding_book import OPEN_MOST, QUIET_S, FindingBook
from heatshield_collector.detect import CLASSES, Finding, Victims

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
S = 10**9


def at(seconds):
    return Instant(seconds, round((1_000 + seconds) * S))


def said(klass="hot", action="none", load=1.0, key=KEY, **more):
    return Finding(klass, key, "busy", "1s", load, 0.1, f"{klass} {load}", action=action, **more)


def told(book, seconds, *findings):
    """(change, class, action) of all that is told."""
    return [
        (change, record.finding.klass, record.finding.action)
        for change, record in book.take(findings, at(seconds))
    ]


def test_it_is_opened_once_and_closed_once_it_has_not_been_seen_for_a_while():
    book = FindingBook(7)
    assert told(book, 0.0, said()) == [("opened", "hot", "none")]
    assert told(book, 0.25, said()) == []
    assert told(book, 0.25 + QUIET_S) == []
    ((change, record),) = book.take((), at(0.5 + QUIET_S))
    assert (change, record.id) == ("closed", "f-7-1")
    assert record.closed_ns == at(0.5 + QUIET_S).epoch_ns
    assert (record.opened_ns, record.updated_ns) == (at(0.0).epoch_ns, at(0.25).epoch_ns)
    assert book.open == ()


def test_a_pause_is_the_same_finding_and_a_longer_one_makes_another():
    book = FindingBook(7)
    told(book, 0.0, said())
    assert told(book, QUIET_S, said()) == []
    later = 2 * QUIET_S + 0.25
    assert told(book, later, said()) == [("closed", "hot", "none"), ("opened", "hot", "none")]
    assert [one.id for one in book.open] == ["f-7-2"]


def test_what_gets_worse_is_told_at_once_and_what_gets_better_once_it_stays_so():
    book = FindingBook(7)
    told(book, 0.0, said())
    assert told(book, 0.25, said("harmful", "pace"), said()) == [("changed", "harmful", "pace")]
    assert told(book, 0.5, said("harmful", "reject")) == [("changed", "harmful", "reject")]
    for step in range(1, 40):
        assert told(book, 0.5 + step / 4, said("harmful", "pace"), said()) == []
    assert told(book, 10.75, said()) == [("changed", "hot", "none")]
    assert [(one.id, one.worst.action) for one in book.open] == [("f-7-1", "reject")]


def test_a_finding_keeps_its_worst_figures_and_the_requests_that_show_it():
    book = FindingBook(7)
    harm = {"figures": {"share": 0.9}, "victims": Victims(10, 5, 3)}
    told(book, 0.0, said(load=1.0, trace_ids=["a", "b", "c"]))
    told(book, 0.25, said(load=3.0, trace_ids=["w", "b", "d"], **harm))
    told(book, 0.5, said(load=2.0, trace_ids=["a", "e", "f"]))
    (record,) = book.open
    assert (record.worst.load, record.worst_ns) == (3.0, at(0.25).epoch_ns)
    json = record.to_json(5)
    assert (json["load"], json["at_ns"], json["reason"]) == (2.0, 5, "hot 2.0")
    assert json["trace_ids"] == ["w", "e", "f"], "the worst of all, and what is typical now"
    assert json["worst"]["figures"] == {"share": 0.9}
    assert (json["worst"]["victims"]["harmed"], json["victims"]) == (5, None)


def test_a_user_may_be_heavy_and_over_a_budget_beside_being_hot():
    book = FindingBook(7)
    told(book, 0.0, said("heavy"), said("budget"), said("hot"))
    assert [one.finding.klass for one in book.open] == ["heavy", "budget", "hot"]
    assert book.about(KEY).finding.klass == "budget"


def test_an_overload_is_of_its_resource_whichever_call_is_harmed_most():
    book = FindingBook(7)
    nobody = KEY._replace(user=None)
    told(book, 0.0, said("overload", key=nobody, load=0.0, resource="Redis cart"))
    other = said("overload", key=nobody._replace(call="GET /q"), load=0.0, resource="Redis cart")
    assert told(book, 0.25, other) == []
    assert told(book, 0.5, replace(other, resource="shop i-1")) == [("opened", "overload", "none")]
    assert book.about(nobody, "Redis cart").id == "f-7-1"
    assert book.about(nobody, "shop i-1").id == "f-7-2"


def test_alerts_find_the_gravest_finding_of_their_user_and_of_no_other():
    book = FindingBook(7)
    other = KEY._replace(call="GET /q")
    told(book, 0.0, said(load=9.0), said("harmful", key=other), said(key=KEY._replace(user="u-2")))
    assert book.about(KEY).finding.load == 9.0
    assert book.about(KEY._replace(call="")).finding.key == other
    assert book.about(KEY._replace(user="u-3")) is None
    assert book.about(KEY._replace(service="talk")) is None


def test_what_is_open_is_bounded_and_the_mildest_make_room_for_graver_ones():
    book = FindingBook(7)
    crowd = [said("heavy", key=KEY._replace(user=f"u-{n}")) for n in range(OPEN_MOST + 5)]
    assert len(book.take(crowd, at(0.0))) == OPEN_MOST
    assert len(book.open) == OPEN_MOST
    changes = told(book, 0.25, said("harmful", key=KEY._replace(user="new")))
    assert changes == [("closed", "heavy", "none"), ("opened", "harmful", "none")]
    assert len(book.open) == OPEN_MOST


def test_a_collector_that_stops_closes_what_is_open():
    book = FindingBook(7)
    told(book, 0.0, said())
    ((change, record),) = book.close_all(at(1.0))
    assert (change, record.closed_ns, book.open) == ("closed", at(1.0).epoch_ns, ())


@pytest.mark.parametrize("klass", CLASSES)
def test_every_class_can_be_kept(klass):
    book = FindingBook(7)
    told(book, 0.0, said(klass, key=KEY._replace(user=None) if klass == "overload" else KEY))
    assert book.open[0].to_json(1)["class"] == klass
