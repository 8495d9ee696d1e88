"""What names a user: where each source is read, and which of them is believed over which."""

import base64
import itertools
import json
import uuid
from types import SimpleNamespace

import pytest
from starlette.authentication import SimpleUser, UnauthenticatedUser

from heatshield.context.request import Request, latest
from heatshield.identity.identify import SOURCES, Identity
from heatshield.identity.pseudonym import pseudonym
from heatshield.settings import ServiceSettings, SettingsError, load

KEY = "a key for tests"


def bearer(claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return b"Bearer e30." + payload + b".c2ln"


ALL = {
    "user_header": "X-User",
    "user_jwt_claim": "sub",
    "user_cookie": "user",
    "user_query": "user",
    "user_path_parameter": "user",
    "user_scope": True,
}


def identity(**settings):
    return Identity(ServiceSettings(**settings))


def entered(headers=(), query=b"", request=None, **settings):
    request = request or Request()
    identity(**settings).on_entry(request, dict(headers), query)
    return request.user, request.source


def routed(path=(), user=None, request=None, **settings):
    request = request or Request()
    identity(**settings).on_route(request, dict(path), user)
    return request.user, request.source


def test_each_source_is_read_where_it_stands():
    assert entered({b"x-user": b" u-1 "}, user_header="X-User") == ("u-1", "header")
    token = {b"authorization": bearer({"sub": "u-1"})}
    assert entered(token, user_jwt_claim="sub") == ("u-1", "jwt-unverified")
    cookie = {b"cookie": b'a=b; user="u%2D1"; user=u-2'}
    assert entered(cookie, user_cookie="user") == ("u-1", "cookie")
    assert entered({}, b"a=b&user=u%2d1&user=u-2", user_query="user") == ("u-1", "query")
    assert entered({}, b"b&%75ser=u+1", user_query="user") == ("u 1", "query")
    assert routed({"user": 7}, user_path_parameter="user") == ("7", "path")
    assert routed({}, "u-1", user_scope=True) == ("u-1", "auth")


def test_what_no_setting_names_is_not_read():
    headers = {b"x-user": b"u", b"authorization": bearer({"sub": "u"}), b"cookie": b"user=u"}
    assert entered(headers, b"user=u") == (None, "")
    assert routed({"user": "u"}, "u") == (None, "")
    assert identity().headers == frozenset()
    assert not identity().reads_query
    assert not identity().reads_route


def test_only_the_headers_that_are_read_are_asked_for():
    assert identity(**ALL).headers == {b"x-user", b"authorization", b"cookie"}


class Django:
    """As ``django.contrib.auth`` has users."""

    is_authenticated = True
    username = "zoe"
    pk = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("user", "known_as"),
    [
        (SimpleUser("zoe"), "zoe"),
        (UnauthenticatedUser(), None),
        (Django(), str(uuid.UUID(int=7))),
        (SimpleNamespace(is_authenticated=False, pk=1), None),
        (SimpleNamespace(id=7), "7"),
        (SimpleNamespace(identity="i", username="n"), "i"),
        ({"sub": "s", "username": "n"}, "s"),
        ("remote", "remote"),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (SimpleNamespace(pk=True, id=b"b", username=""), None),
        (object(), None),
        (None, None),
    ],
)
def test_users_of_frameworks_are_known_by_their_ids(user, known_as):
    assert routed({}, user, user_scope=True)[0] == known_as


class Lazy:
    """A user whose look-up fails, as Django's do in a coroutine."""

    @property
    def __class__(self):
        raise RuntimeError("no database here")

    def __getattr__(self, name):
        raise RuntimeError("no database here")


def test_a_user_that_can_not_be_looked_at_names_nobody_and_raises_nothing():
    settings = {"user_scope": True, "user_path_parameter": "user"}
    assert routed({}, Lazy(), **settings)[0] is None
    assert routed({"user": "p"}, Lazy(), **settings) == ("p", "path")


def names(source, request, reads):
    """Has one source name the user ``by-<source>``."""
    user = f"by-{source}"
    if source == "code":
        reads.name(request, user)
    elif source == "auth":
        reads.on_route(request, {}, user)
    elif source == "path":
        reads.on_route(request, {"user": user})
    elif source == "query":
        reads.on_entry(request, {}, f"user={user}".encode())
    else:
        headers = {
            "header": {b"x-user": user.encode()},
            "jwt-unverified": {b"authorization": bearer({"sub": user})},
            "cookie": {b"cookie": f"user={user}".encode()},
        }
        reads.on_entry(request, headers[source])


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize(
    ("better", "worse"),
    [pair for pair in itertools.combinations(SOURCES, 2) if "baggage" not in pair],
)
def test_the_better_source_wins_whichever_comes_first(better, worse, key):
    reads = identity(**ALL, user_key=key)
    for order in ((better, worse), (worse, better)):
        request = Request()
        for source in order:
            names(source, request, reads)
        assert request.user == reads.known_as(f"by-{better}")
        assert request.source == better


@pytest.mark.parametrize("source", [one for one in SOURCES if one != "baggage"])
def test_another_service_is_believed_over_what_anybody_can_write(source):
    reads = identity(**ALL)
    request = Request(user="by-baggage", source="baggage")
    names(source, request, reads)
    wins = SOURCES.index(source) < SOURCES.index("baggage")
    assert request.user == (f"by-{source}" if wins else "by-baggage")


def test_in_one_request_the_order_is_the_same():
    headers = {b"x-user": b"h", b"authorization": bearer({"sub": "t"}), b"cookie": b"user=c"}
    for name, (user, source) in (
        (b"x-user", ("h", "header")), (b"authorization", ("t", "jwt-unverified")),
        (b"cookie", ("c", "cookie")), (None, ("q", "query")),
    ):  # fmt: skip
        assert entered(headers, b"user=q", **ALL) == (user, source)
        headers.pop(name, None)


@pytest.mark.parametrize("bad", [b"", b" ", b"\t"])
def test_a_header_that_is_no_id_gives_way_to_the_next_source(bad):
    headers = {b"x-user": bad, b"cookie": b"user=c"}
    assert entered(headers, **ALL) == ("c", "cookie")


def test_code_may_name_another_user_later():
    reads, request = identity(), Request()
    assert reads.name(request, "admin") == "admin"
    assert reads.name(request, "ann") == "ann"
    assert request.user == "ann"


def test_an_id_that_is_none_is_not_named_and_changes_nobody():
    reads, request = identity(), Request()
    reads.name(request, "ann")
    assert reads.name(request, "") is None
    assert request.user == "ann"


def test_all_users_of_a_request_are_masked_whoever_acts():
    reads, request = identity(**ALL, user_key=KEY), Request()
    reads.on_entry(request, {b"x-user": b"root"}, b"user=eve")
    reads.on_route(request, {"user": "ann"})
    known = {user: pseudonym(KEY.encode(), user) for user in ("root", "ann", "eve")}
    assert request.user == known["root"]
    assert request.raw_user == "root"
    assert request.masked("root eve ann") == " ".join(known[u] for u in ("root", "eve", "ann"))


@pytest.mark.parametrize(
    "carried",
    [{"query": b"x=1&who=ann"}, {"path": {"id": "7", "whose": "ann"}}],
)
def test_whose_pseudonym_another_service_sent_is_recognised(carried):
    """Or a service that was only told the pseudonym would send the id in its addresses."""
    reads = identity(user_key=KEY)
    known_as = pseudonym(KEY.encode(), "ann")
    request = Request(user=known_as, source="baggage")
    reads.on_entry(request, {}, carried.get("query", b""))
    reads.on_route(request, carried.get("path", {}))
    assert (request.user, request.source) == (known_as, "baggage")
    assert request.masked("/users/ann") == f"/users/{known_as}"


def test_what_is_nobodys_id_is_not_masked():
    reads = identity(user_key=KEY)
    request = Request(user=pseudonym(KEY.encode(), "ann"), source="baggage")
    reads.on_route(request, {"page": "stickers"})
    assert request.masked("/stickers/ann") == "/stickers/ann"


def test_what_is_said_after_a_request_is_masked_too():
    request = Request()
    identity(user_key=KEY).name(request, "ann")
    assert latest() is request


@pytest.mark.parametrize(
    "settings",
    [{"user_header": "x user"}, {"user_header": "x:y"}, {"user_cookie": "a=b"}, {"user_scope": 2}],
)
def test_names_that_no_header_or_cookie_can_have_are_refused(settings):
    with pytest.raises(SettingsError):
        load(ServiceSettings, flags=settings, environ={})
