"""``user_scope`` in Django with its own sessions and users: pages are as they are without it."""

import asyncio
import io
import sys
import types

import django_shop  # noqa: F401  # configures Django
import pytest
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

import heatshield
from heatshield.names import ENDUSER_ID, REJECTED, USER_SOURCE

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


def public(_request):
    return HttpResponse("for everybody")


def mine(request):
    return HttpResponse(request.user.get_username())


async def public_async(_request):
    return HttpResponse("for everybody")


async def mine_async(request):
    user = await request.auser()
    return HttpResponse(user.get_username())


def guarded(_request):
    with heatshield.guard("pack"):
        return HttpResponse("packed")


async def guarded_async(_request):
    async with heatshield.guard("pack"):
        return HttpResponse("packed")


def _urls(name, public, mine, guarded):
    module = types.ModuleType(name)
    module.urlpatterns = [path("public", public), path("mine", mine), path("guarded", guarded)]
    sys.modules[name] = module
    return name


WORLDS = [
    (_urls("sync_pages", public, mine, guarded), False),
    (_urls("async_pages", public_async, mine_async, guarded_async), True),
]


@pytest.fixture(scope="module")
def cookie():
    """The session of a user who has logged in; the database is there as long as a connection is."""
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_user("ana")
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user)
    request.session.save()
    yield f"{settings.SESSION_COOKIE_NAME}={request.session.session_key}", str(user.pk)
    connection.close()


@pytest.fixture
def queries(monkeypatch):
    """Statements that Django runs in any thread."""
    run = []
    original = CursorWrapper.execute

    def execute(cursor, sql, params=None):
        run.append(sql)
        return original(cursor, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", execute)
    return run


@pytest.fixture(params=WORLDS, ids=["sync", "async"])
def ask(request):
    """Ask for a page: its status, its Vary header and its body."""
    urls, is_async = request.param

    def wsgi(path, cookie):
        head = []
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "shop", "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "HTTP_COOKIE": cookie,
        }  # fmt: skip
        body = WSGIHandler()(environ, lambda *args: head.append(args))
        whole = b"".join(body)
        body.close()
        headers = {name.lower(): value for name, value in head[0][1]}
        return int(head[0][0][:3]), headers.get("vary"), whole

    async def asgi(path, cookie):
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 1), "root_path": "",
            "headers": [(b"host", b"shop"), (b"cookie", cookie.encode())],
        }  # fmt: skip
        sent, requests = [], [{"type": "http.request", "body": b""}]

        async def receive():
            return requests.pop() if requests else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        await ASGIHandler()(scope, receive, send)
        vary = dict(sent[0]["headers"]).get(b"Vary")
        return sent[0]["status"], vary and vary.decode(), sent[1]["body"]

    def asked(path, cookie):
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=MIDDLEWARE):
            return asyncio.run(asgi(path, cookie)) if is_async else wsgi(path, cookie)

    return asked


def test_a_page_that_asks_for_no_user_costs_no_query_and_varies_by_nothing(
    service, ask, cookie, queries
):
    made = service(user_scope=True)
    assert ask("/public", cookie[0]) == (200, None, b"for everybody")
    assert queries == []
    assert ENDUSER_ID not in made.span("GET /public").attributes


def test_a_page_that_asks_names_the_user_and_costs_and_varies_as_without(
    service, ask, cookie, queries
):
    assert ask("/mine", cookie[0]) == (200, "Cookie", b"ana")
    without = len(queries)
    made = service(user_scope=True)
    queries.clear()
    assert ask("/mine", cookie[0]) == (200, "Cookie", b"ana")
    assert len(queries) == without
    span = made.span("GET /mine")
    assert (span.attributes[ENDUSER_ID], span.attributes[USER_SOURCE]) == (cookie[1], "auth")


def test_a_tripped_user_is_refused_before_the_view_whether_or_not_it_asks(service, ask, cookie):
    made = service(user_scope=True)
    for page in ("public", "mine"):
        entry_id = made.trip(cookie[1], f"GET /{page}")
        assert ask(f"/{page}", cookie[0])[0] == 503
        assert made.span(f"GET /{page}").attributes[REJECTED] == entry_id


def test_a_guard_in_a_view_that_asks_for_no_user_is_refused(service, ask, cookie):
    made = service(user_scope=True)
    entry_id = made.trip(cookie[1], "pack")
    assert ask("/guarded", cookie[0])[0] == 503
    assert made.span("pack").attributes[REJECTED] == entry_id
    assert ask("/guarded", "") == (200, None, b"packed"), "nobody in particular"


def test_a_call_that_is_refused_to_somebody_else_varies_as_without(service, ask, cookie):
    """It was asked who this is; caches must not learn of it, but of the page's own asking."""
    made = service(user_scope=True)
    made.trip("somebody", "GET /public")
    made.trip("somebody", "GET /mine")
    assert ask("/public", cookie[0]) == (200, None, b"for everybody")
    assert ask("/mine", cookie[0]) == (200, "Cookie", b"ana")
    assert made.span("GET /public").attributes[ENDUSER_ID] == cookie[1]


def test_who_has_not_logged_in_is_nobody(service, ask, cookie, queries):
    made = service(user_scope=True)
    made.trip(cookie[1], "GET /mine")
    assert ask("/mine", "") == (200, "Cookie", b"")
    assert queries == []
    assert ENDUSER_ID not in made.span("GET /mine").attributes
