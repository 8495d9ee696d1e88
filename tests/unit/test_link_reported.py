"""Names and evidence of charge reports: as spans have them, whatever a sender wrote."""

from dataclasses import replace

from report_bodies import report

from heatshield.call_key import DEFAULT_TENANT, LONGEST, CallKey
from heatshield.charge_report import BackendDurationCount, BackendTime, Operation, Pair
from heatshield.identity.wire_id import wire_id
from heatshield_collector.link.reported import Reported, plain

LONG = "x" * (LONGEST + 1)


def test_names_that_are_long_or_unprintable_are_those_that_spans_and_breakers_have():
    odd = report(
        Pair(LONG, "GET /\n"),
        Pair(None, "GET /"),
        Pair("", "GET /"),
        service="s\x1f",
        instance=LONG,
    )
    odd = replace(
        odd,
        backend_us=[BackendTime(0, LONG, 5)],
        backend_durations=[BackendDurationCount(LONG, 3, 1)],
        operations=[Operation(0, LONG, 9, None)],
    )
    made = plain(odd)
    assert (made.service, made.instance) == (wire_id("s\x1f"), LONG[:LONGEST])
    assert [(pair.user, pair.call) for pair in made.pairs] == [
        (wire_id(LONG), wire_id("GET /\n")), (None, "GET /"), ("", "GET /"),
    ]  # fmt: skip
    rows = (*made.backend_us, *made.backend_durations, *made.operations)
    assert {row.backend for row in rows} == {LONG[:LONGEST]}
    key = CallKey(DEFAULT_TENANT, wire_id(LONG), wire_id("s\x1f"), wire_id("GET /\n"))
    assert Reported([(made, False)]).keys[0] == key.text


def test_an_ordinary_report_is_left_as_it_is():
    ordinary = report(Pair("ünder", "GET /"), Pair(None, "GET /"), backend_us=[(0, "redis", 5)])
    assert plain(ordinary) is ordinary
    assert plain(report()) == report()


def test_what_is_no_trace_id_is_no_evidence():
    good = "5b8efff798038103d269b633813fc60c"
    reported = Reported([(report(Pair("u", "GET /", traces=("<b>", good, good.upper()))), False)])
    assert reported.trace_ids(0) == [good]


def test_of_late_reports_and_of_users_nobody_knows_nothing_is_eligible():
    pairs = (Pair("u", "GET /"), Pair(None, "GET /"), Pair("", "GET /"))
    reported = Reported([(report(*pairs), False), (report(), False), (report(*pairs), True)])
    assert reported.eligible.tolist() == [True, False, False, False, False, False]
    assert reported.users == ["u", None, None] * 2
    assert Reported([]).keys == []
