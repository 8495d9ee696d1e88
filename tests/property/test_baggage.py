"""Baggage: whatever comes in is bounded and clean, and whatever goes out comes in again."""

import re

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.context import Context

from heatshield.context.propagator import MAX_BAGGAGE_BYTES, MAX_BAGGAGE_MEMBERS, RequestPropagator
from heatshield.context.request import Request, request_in, with_request
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings

NAMES = st.text("!#$%&'*+.^_`|~-0aZ", min_size=1, max_size=20)
VALUES = st.text(max_size=30).filter(str.isprintable)
USERS = VALUES.filter(bool)
HOSTILE = st.text(max_size=300) | st.lists(
    st.text('enduser.id=,;%\x00\n 0a"\\é', max_size=40), max_size=100
).map(",".join)  # fmt: skip


def propagator(**settings):
    loaded = ServiceSettings(**settings)
    return RequestPropagator(Identity(loaded), edge=loaded.edge)


@given(USERS, st.dictionaries(NAMES, VALUES, max_size=10))
def test_what_goes_out_comes_in_again(user, members):
    context = with_request(Request(user=user), Context())
    for name, value in members.items():
        context = set_baggage(name, value, context)
    headers = {}
    propagator().inject(headers, context)
    assert headers["baggage"].isascii()
    found = propagator().extract(headers, Context())
    assert request_in(found).user == user
    assert dict(get_all(found)) == {k: v for k, v in members.items() if k != "enduser.id"}


@given(HOSTILE)
def test_whatever_comes_in_is_clean(baggage):
    found = propagator().extract({"baggage": baggage}, Context())
    user = request_in(found).user
    assert user is None or (0 < len(user) <= 256 and user.isprintable())
    members = get_all(found)
    assert len(members) <= MAX_BAGGAGE_MEMBERS
    for name, value in members.items():
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", name)
        assert str(value).isprintable()
    headers = {}
    propagator().inject(headers, found)
    assert not re.search(r"[\x00-\x1f\x7f]", headers.get("baggage", ""))


@given(st.integers(MAX_BAGGAGE_BYTES - 100, MAX_BAGGAGE_BYTES + 100))
def test_a_header_is_read_up_to_the_limit_and_not_beyond(length):
    baggage = "enduser.id=u-1,x=".ljust(length, "y")
    found = propagator().extract({"baggage": baggage}, Context())
    assert request_in(found).user == ("u-1" if length <= MAX_BAGGAGE_BYTES else None)


@given(HOSTILE)
def test_an_edge_believes_none_of_it(baggage):
    found = propagator(edge=True).extract({"baggage": baggage}, Context())
    assert request_in(found).user is None
    assert not get_all(found)
