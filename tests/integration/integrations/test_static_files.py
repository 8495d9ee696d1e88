"""Requests for files are marked, and are one call; a route that says nothing has a view."""

import asyncio
import types
from wsgiref.util import setup_testing_defaults

import django_shop  # noqa: F401  # configures Django
import flask
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path, re_path
from django.views.static import serve
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from heatshield.names import CALL, STATIC, STATIC_CALL


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.css").write_text("a")
    (tmp_path / "b.css").write_text("b")
    return tmp_path


def through_django(urls, where, handler=None):
    module = types.ModuleType("static_shop")
    module.urlpatterns = urls
    environ = {}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": where, "REQUEST_METHOD": "GET"}
    head = []
    with override_settings(ROOT_URLCONF=module):
        body = (handler or WSGIHandler())(environ, lambda *args: head.append(args[0]))
        text = b"".join(body)
        body.close()
    return int(head[0][:3]), text


def of_flask(files):
    app = flask.Flask("shop", static_folder=str(files), static_url_path="/static")
    blueprint = flask.Blueprint("more", "more", static_folder=str(files), static_url_path="/css")
    app.register_blueprint(blueprint, url_prefix="/more")
    for where in ("/static/a.css", "/more/css/b.css"):
        assert app.test_client().get(where, buffered=True).status_code == 200


def of_starlette(files):
    app = Starlette(routes=[Mount("/static", StaticFiles(directory=files), name="static")])
    for name in "ab":
        assert TestClient(app).get(f"/static/{name}.css").text == name


def of_aiohttp(files):
    async def main():
        app = web.Application()
        app.router.add_static("/static", files)
        async with TestServer(app) as server, ClientSession() as client:
            for name in "ab":
                async with client.get(server.make_url(f"/static/{name}.css")) as answer:
                    assert await answer.text() == name

    asyncio.run(main())


def of_django(files):
    """As ``django.conf.urls.static.static`` makes it, for uploaded files too."""
    urls = [re_path(r"^media/(?P<path>.*)$", serve, {"document_root": str(files)})]
    for name in "ab":
        assert through_django(urls, f"/media/{name}.css") == (200, name.encode())


def of_runserver(files):
    with override_settings(STATIC_URL="/static/", STATICFILES_DIRS=[str(files)], DEBUG=True):
        for name in "ab":
            handler = StaticFilesHandler(WSGIHandler())
            assert through_django([], f"/static/{name}.css", handler) == (200, name.encode())


WAYS = {one.__name__: one for one in (of_flask, of_starlette, of_aiohttp, of_django, of_runserver)}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_files_are_marked_and_one_call(service, files, way):
    made = service(disabled=("aiohttp_client", "httpx"))
    way(files)
    assert [span.name for span in made.spans] == [STATIC_CALL] * 2
    for span in made.spans:
        assert span.attributes[CALL] == STATIC_CALL
        assert span.attributes[STATIC] is True


def test_what_is_only_called_static_is_a_call_of_its_own(service):
    made = service()
    app = flask.Flask("shop", static_folder=None)
    app.add_url_rule("/static", "static", lambda: "none")
    app.test_client().get("/static", buffered=True)
    assert made.span("GET /static").attributes.get(STATIC) is None


def page(request, *_, **__):
    return HttpResponse("page")


@pytest.mark.parametrize(
    ("route", "where", "call"),
    [
        (path("<path:rest>", page, name="cms_page"), "/about/us", "GET /<path:rest> (cms_page)"),
        (path("<slug:slug>/", page), "/about/", f"GET /<slug:slug>/ ({__name__}.page)"),
        (
            re_path(r"^((?:[\w\-]+/)*)$", page, name="wagtail_serve"),
            "/about/us/",
            r"GET /((?:[\w\-]+/)*)$ (wagtail_serve)",
        ),
        (re_path(r"^(?P<rest>.*)$", page, name="all"), "/x", "GET /(?P<rest>.*)$ (all)"),
        (path("docs/<path:rest>", page, name="docs"), "/docs/x", "GET /docs/<path:rest>"),
        (path("", page, name="home"), "/", "GET /"),
    ],
)
def test_the_view_stands_beside_a_route_that_says_nothing(service, route, where, call):
    made = service()
    assert through_django([route], where) == (200, b"page")
    (span,) = made.spans
    assert (span.name, span.attributes[CALL]) == (call, call)
    assert span.attributes["http.route"] == call.removeprefix("GET ").partition(" (")[0]
