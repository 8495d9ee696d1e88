"""Which call a request is, by method and path alone."""

import time

import pytest

from heatshield.breakers.route_match import MAX_PATH, best_match, matches


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("GET /", "/"),
        ("GET /users", "/users"),
        ("GET /users/{id}", "/users/u-1"),
        ("GET /users/{id}/stickers", "/users/u-1/stickers"),
        ("GET /users/{id:int}", "/users/7"),
        (r"GET /users/{id:\d{4}}", "/users/1234"),
        ("GET /files/{rest:path}", "/files/a/b/c.txt"),
        ("GET /files/{file_path}", "/files/a/b/c.txt"),  # as Starlette names {file_path:path}
        ("GET /users/<id>", "/users/u-1"),
        ("GET /users/<int:id>/", "/users/7/"),
        ("GET /users/<string(length=2):lang>", "/users/en"),
        ("GET /files/<path:rest>", "/files/a/b"),
        ("GET /<slug:page>.html", "/about-us.html"),
        ("GET /diff/{old}...{new}", "/diff/1...2"),
        ("GET /users/:id/edit", "/users/7/edit"),
        ("GET /v1/jobs/{id}:cancel", "/v1/jobs/7:cancel"),
        ("GET /files/*rest", "/files/a/b"),
        ("GET /files/{rest...}", "/files/a/b"),
        ("GET /files/{proxy+}", "/files/a/b"),
        (r"GET /users/(?P<pk>[0-9]+)/$", "/users/7/"),
        (r"GET /api/^users\.json$", "/api/users.json"),
        (r"GET /files/(?P<rest>.*)$", "/files/a/b"),
        ("GET /<path:page> (shop-page)", "/a/b"),
    ],
)
def test_a_template_matches_what_its_router_would_send_there(call, path):
    assert matches(call, "GET", path)


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("GET /users", "/users/"),
        ("GET /users", "/user"),
        ("GET /users/{id}", "/users/"),
        ("GET /users/{id}", "/users/u-1/stickers"),
        ("GET /users/<int:id>", "/users/u-1"),
        ("GET /a.b", "/axb"),
        (r"GET /users/(?P<pk>\d+)/$", "/users/7/stickers"),
        (r"GET /users/\d+/$", "/users/7/"),  # not understood, so no request is it
        (r"GET /(a|b)?$", "/a"),
        ("GET /{a}{b}{c}{d}", "/abcd"),
        ("static", "/static"),
        ("refresh_ownership", "/refresh_ownership"),  # a guard's name
        ("GET users", "/users"),
        ("", "/"),
    ],
)
def test_it_matches_nothing_else(call, path):
    assert not matches(call, "GET", path)


def test_the_method_counts_and_head_is_also_get():
    assert not matches("POST /users", "GET", "/users")
    assert matches("GET /users", "HEAD", "/users")
    assert not matches("HEAD /users", "GET", "/users")


def test_a_call_over_grpc_is_its_path():
    assert matches("shop.Cart/Add", "POST", "/shop.Cart/Add")
    assert not matches("shop.Cart/Add", "POST", "/shop.Cart/Remove")
    assert not matches("shop.Cart/Add", "GET", "/shop.Cart/Add")


def test_a_query_does_not_count():
    assert matches("GET /users/{id}", "GET", "/users/7?verbose=1")


def test_an_encoded_letter_leads_past_no_breaker():
    assert matches("POST /stickers", "POST", "/st%69ckers")
    assert matches("GET /users/{id}/stickers", "GET", "/users/%C3%A4/stickers")


def test_the_call_that_says_most_is_the_one():
    calls = ["GET /{rest:path}", "GET /users/{id}", "GET /users/me", "GET /users/<path:rest>"]
    assert best_match(calls, "GET", "/users/me") == "GET /users/me"
    assert best_match(calls, "GET", "/users/7") == "GET /users/{id}"
    assert best_match(calls, "GET", "/users/7/a") == "GET /users/<path:rest>"
    assert best_match(calls, "GET", "/x/y") == "GET /{rest:path}"
    assert best_match(calls, "PUT", "/x/y") is None


@pytest.mark.parametrize(
    "template",
    [
        "/{a}-{b}",
        "/{a}{b}",
        "/{a}-{b}/{c}-{d}/{e}-{f}",
        "/{a:path}/x/{b:path}",
        "/(?P<a>(a+)+)b$",
        "/" + "{a}/" * 40,
        "/" + ":a/*b" * 20,
    ],
)
def test_no_name_and_no_path_takes_long(template):
    paths = [
        "/" + "-" * (MAX_PATH - 1),
        "/" + "a" * (MAX_PATH - 1),
        "/a-" * (MAX_PATH // 3),
        "/x" * (MAX_PATH // 2),
        "/" * MAX_PATH,
    ]
    began = time.process_time()
    for path in paths:
        matches(f"GET {template}", "GET", path)
    assert time.process_time() - began < 0.25


def test_what_is_longer_than_any_path_or_name_is_no_call():
    assert not matches("GET /{a}", "GET", "/" + "a" * MAX_PATH)
    assert not matches("GET /" + "a" * 300, "GET", "/" + "a" * 300)
