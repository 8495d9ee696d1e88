"""Texts that senders choose are charged under the ids that services and breakers have for them."""

import pytest
from span_rows import START_NS, span, table

from heatshield.clock import Instant
from heatshield.identity.wire_id import wire_id
from heatshield_collector.link import Linker


def link(rows):
    return Linker().link(table(rows), Instant(1_000.0, START_NS))


ODD = ["ü" * 257, "x" * 257, "y" * 100_000, "a\x00b", "a\nb", "Юрий", "unknown", "*", "~", "\x7f"]


def test_a_user_with_an_odd_id_is_charged_under_the_id_that_services_send():
    """Cut short it might be another user's; the longest that is kept is kept whole."""
    users = ["ü" * 256, *ODD, "u-1"]
    rows = [span(at, trace=at, user=user) for at, user in enumerate(users, 1)]
    linked = link(rows)
    expected = [wire_id(user) for user in users]
    assert linked.charges.column("user").to_pylist() == expected
    assert linked.parts.column("user").to_pylist() == expected
    assert expected[0] == "ü" * 256


@pytest.mark.parametrize("column", ["service", "call"])
def test_so_is_a_service_or_call_of_an_odd_name(column):
    linked = link([span(1, user="u", **{column: "x" * 300}), span(2, user="u")])
    assert linked.charges.column(column).to_pylist()[0] == wire_id("x" * 300)
