"""Who acts: what is accepted, where it is read, how it becomes a pseudonym and travels."""

import base64
import json
from urllib.parse import quote

import pytest
from opentelemetry import context
from opentelemetry.baggage import set_baggage
from opentelemetry.trace import get_current_span

from heatshield.call_key import is_plain
from heatshield.context.propagator import MAX_BAGGAGE_BYTES, RequestPropagator
from heatshield.context.request import Request, request_in, with_request
from heatshield.identity.credentials import header_bytes, text_of
from heatshield.identity.identify import Identity, acceptable
from heatshield.identity.wire_id import wire_id
from heatshield.settings import ServiceSettings

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736


def identity(**settings):
    return Identity(ServiceSettings(**settings))


def extract(headers, **settings):
    return RequestPropagator(identity(**settings)).extract(headers, context.Context())


def inject(request, b3="multi", before=None):
    headers = {}
    here = with_request(request, before if before is not None else context.Context())
    RequestPropagator(identity(), b3).inject(headers, here)
    return headers


def token(claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return b"Bearer e30." + payload + b".c2ln"


@pytest.mark.parametrize("user", ["", None, 1.5, b"u", [], True])
def test_what_can_be_no_user_id_is_not_accepted(user):
    assert acceptable(user) is None


@pytest.mark.parametrize("user", ["u-1", "x" * 257, "a\nb", "a\x00", "*", "Zoë 山", 42])
def test_what_can_be_one_is(user):
    assert acceptable(user) == str(user)


def test_a_pseudonym_is_a_keyed_hash_of_128_bits():
    known_as = identity(user_key="k").known_as("u-1")
    assert known_as == "hs1-00d01e9947a7d9b071652f1faee0c6df"
    assert known_as != identity(user_key="other").known_as("u-1")
    assert "u-1" not in known_as


@pytest.mark.parametrize(
    "value",
    [b"Bearer", b"Bearer a.b", b"Bearer a.!!.c", b"Basic eDp5", b"Bearer a.W10.c",
     b"Bearer " + b"a" * 9000 + b".e30.c", token({"sub": ["list"]})],
)  # fmt: skip
def test_a_token_that_is_none_names_nobody(value):
    found = identity(user_jwt_claim="sub").from_headers({b"authorization": value})
    assert found is None


def test_w3c_wins_over_b3_and_b3_serves_alone():
    b3 = {"b3": "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"}
    both = extract({"traceparent": TRACEPARENT, **b3})
    assert get_current_span(both).get_span_context().trace_id == TRACE_ID
    alone = extract(b3)
    assert get_current_span(alone).get_span_context().trace_id == 0x463AC35C9F6413AD48485A3953BB6124


def test_zipkins_short_ids_in_many_headers_are_read():
    found = extract({"x-b3-traceid": "a2fb4a1d1a96d312", "x-b3-spanid": "00f067aa0ba902b7"})
    assert get_current_span(found).get_span_context().trace_id == 0xA2FB4A1D1A96D312


def test_the_user_arrives_in_baggage():
    assert request_in(extract({"baggage": "a=b,enduser.id=u%2D1"})).user == "u-1"


@pytest.mark.parametrize(
    "baggage",
    ["enduser.id=", "enduser.id", "=,;;%%",
     "enduser.id=u-1," + "p=" + "x" * MAX_BAGGAGE_BYTES],
)  # fmt: skip
def test_hostile_baggage_names_nobody_and_raises_nothing(baggage):
    assert request_in(extract({"baggage": baggage})).user is None


ODD = ["unknown", "*", "x" * 257, "y" * 2_000, "Юрий", "李", "a\nb", "\0", "\x7f", "\u202eb", "ÿ"]


@pytest.mark.parametrize("user", ODD)
def test_whatever_a_user_is_called_each_source_comes_to_the_same_plain_id(user):
    """So an entry for the user matches, however services learn who acts."""
    expected = wire_id(user)
    assert is_plain(expected)
    assert wire_id(expected) == expected
    quoted = quote(user)
    sources = identity(
        user_header="x-user", user_cookie="u", user_query="u", user_path_parameter="u",
        user_scope=True, user_jwt_claim="sub",
    )  # fmt: skip
    found = [
        sources.from_headers({b"cookie": b"u=" + quoted.encode()}),
        sources.from_headers({b"authorization": token({"sub": user})}),
        sources.from_query(b"u=" + quoted.encode()),
        sources.from_path({"u": user}),
        sources.from_scope({"sub": user}),
        user,
    ]
    if user.isprintable():  # else no client can send it in a header
        found.append(sources.from_headers({b"x-user": user.encode()}))
        found.append(sources.from_query(b"u=" + user.encode()))
    for one in found:
        request = Request()
        assert sources.name(request, one) == expected
    assert request_in(extract({"baggage": f"enduser.id={quoted}"})).user == expected
    carried = inject(Request(user=expected))["baggage"]
    assert request_in(extract({"baggage": carried})).user == expected


def test_what_is_no_utf_8_is_read_as_latin_1_and_users_stay_apart():
    sources = identity(user_header="x-user")
    users = [sources.from_headers({b"x-user": one}).user for one in (b"Zo\xeb", "Zoë".encode())]
    assert users == ["Zoë", "Zoë"]
    assert sources.from_headers({b"x-user": b"\xff"}) != sources.from_headers({b"x-user": b"\xfe"})


@pytest.mark.parametrize("text", ["Юрий", "李", "Zoë", "u-1"])
def test_a_header_that_a_library_has_decoded_is_the_same_user(text):
    as_latin_1 = text.encode().decode("latin-1")
    assert text_of(header_bytes(as_latin_1)) == text_of(header_bytes(text)) == text


def test_long_ids_that_begin_alike_stay_apart():
    ids = {wire_id("x" * 300 + str(number)) for number in range(100)}
    assert len(ids) == 100


def test_an_edge_can_refuse_to_believe_baggage():
    assert request_in(extract({"baggage": "enduser.id=victim"}, user_baggage=False)).user is None


def test_with_a_key_a_pseudonym_from_another_service_is_kept_and_a_raw_id_is_not():
    known_as = identity(user_key="k").known_as("u-1")
    assert request_in(extract({"baggage": f"enduser.id={known_as}"}, user_key="k")).user == known_as
    assert request_in(extract({"baggage": "enduser.id=u-1"}, user_key="k")).user == known_as


def test_every_extraction_makes_a_request_of_its_own():
    assert request_in(extract({})) is not request_in(extract({}))


def test_the_user_leaves_in_baggage_beside_what_came():
    before = set_baggage("theirs", "kept", set_baggage("enduser.id", "old", context.Context()))
    sent = inject(Request(user="ü 1"), before=before)["baggage"]
    assert sorted(sent.split(",")) == ["enduser.id=%C3%BC%201", "theirs=kept"]


def test_a_user_nobody_believes_does_not_leave_again():
    before = set_baggage("enduser.id", "victim", context.Context())
    assert "baggage" not in inject(Request(user=None), before=before)


@pytest.mark.parametrize(
    ("b3", "expected"),
    [
        ("multi", {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
        ("single", {"b3"}),
        ("off", set()),
    ],
)
def test_b3_leaves_as_set(b3, expected):
    before = extract({"traceparent": TRACEPARENT})
    assert inject(Request(), b3, before).keys() == {"traceparent"} | expected


def test_raw_ids_are_masked_where_a_pseudonym_is_in_use():
    request = Request()
    known_as = identity(user_key="k").name(request, "ann lee")
    assert request.masked("/users/ann%20lee?x=ann lee") == f"/users/{known_as}?x={known_as}"
    unmasked = Request()
    identity().name(unmasked, "ann lee")
    assert unmasked.masked("/users/ann lee") == "/users/ann lee"
