"""Which names are known, and which known one is written most like another."""

import difflib

import pytest
from memory_store import MemoryStore
from span_rows import CLIENT, INTERNAL, START_NS, span
from store_rows import put

from heatshield.identity.wire_id import wire_id
from heatshield_collector.query.known import MOST_COMPARED, Known, Name, known

YES = Name(True, None)


def ask(store, user="u-100", service="shop", call="POST /p"):
    return known(store, user, service, call, now_ns=START_NS + 10**9)


def filled(user="u-100"):
    store = MemoryStore()
    put(
        store,
        [
            span(1, user=user),
            span(2, parent=1, kind=CLIENT, name="SADD", backend="redis"),
            span(3, parent=1, kind=INTERNAL, name="refresh", call="refresh"),
        ],
    )
    return store


def test_what_spans_have_is_known_also_a_guard():
    assert ask(filled()) == Known(YES, YES, YES)
    assert ask(filled(), call="refresh").call == YES


def test_of_what_none_has_the_nearest_is_told():
    found = ask(filled(), user="u-10O", service="shp", call="POST /q")
    assert found == Known(Name(False, "u-100"), Name(False, "shop"), Name(False, None))
    assert ask(filled(), call="POST /q").call == Name(False, "POST /p")


def test_an_operation_of_a_backend_is_no_call_that_can_be_cut():
    assert ask(filled(), call="SADD").call.known is False


def test_nothing_is_near_where_nothing_is_known():
    assert ask(MemoryStore()) == Known(*3 * [Name(False, None)])


def test_however_far_a_name_is_the_nearest_shows_how_services_name_things():
    alias = "hs1-" + 32 * "a"
    assert ask(filled(alias), user="ann@example.com").user == Name(False, alias)


def test_among_very_many_names_only_those_of_a_like_length_are_compared(monkeypatch):
    compared = []
    of_difflib = difflib.get_close_matches

    def count(wanted, names, **options):
        compared.append(len(names))
        return of_difflib(wanted, names, **options)

    monkeypatch.setattr(difflib, "get_close_matches", count)
    store = MemoryStore()
    ids = range(1, 2 * MOST_COMPARED)
    put(store, [span(one, name=f"GET /{one:050}") for one in ids])
    put(store, [span(2 * MOST_COMPARED, name="POST /buy")])
    assert ask(store, call="POST /bye").call == Name(False, "POST /buy")
    assert max(compared) == MOST_COMPARED


@pytest.mark.parametrize("odd", ["x" * 300, "a\x00b", "*"])
def test_an_odd_name_is_known_as_it_came_and_as_services_send_it(odd):
    store = MemoryStore()
    put(store, [span(1, user=wire_id(odd), name=odd)])
    for name in (odd, wire_id(odd)):
        assert ask(store, user=name, call=name) == Known(YES, YES, YES)
