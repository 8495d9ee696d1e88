"""Django, over WSGI under wsgiref and over ASGI under uvicorn."""

import asyncio
import re
import socketserver
import threading
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.util import setup_testing_defaults

import django_shop
import pytest
from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers import exception
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.test import Client, override_settings
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.trace import SpanKind, StatusCode
from shop_behaviour import Shop, ShopBehaviour

import heatshield
from heatshield.breakers.watch import Watch
from heatshield.names import ENDUSER_ID, REJECTED


class ThreadingWSGIServer(socketserver.ThreadingMixIn, WSGIServer):
    """What Django's own runserver is."""


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve_wsgiref():
    servers = []

    def serve(app):
        server = ThreadingWSGIServer(("127.0.0.1", 0), Quiet)
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


class DjangoBehaviour(ShopBehaviour):
    template = staticmethod(lambda path: re.sub("USER", "<user>", path))


class TestDjangoOverWsgi(DjangoBehaviour):
    @pytest.fixture
    def open_shop(self, serve_wsgiref):
        def start():
            django_shop.RAN.clear()
            return Shop(serve_wsgiref(WSGIHandler()), django_shop.RAN)

        return start


class TestDjangoOverAsgi(DjangoBehaviour):
    """Sync views, each in a thread."""

    @pytest.fixture
    def open_shop(self, serve_asgi):
        def start():
            django_shop.RAN.clear()
            return Shop(serve_asgi(ASGIHandler()), django_shop.RAN)

        return start


class TestDjangoOverAsgiWithAsyncViews(DjangoBehaviour):
    @pytest.fixture
    def open_shop(self, serve_asgi):
        with override_settings(ROOT_URLCONF=django_shop.ASYNC):

            def start():
                django_shop.RAN.clear()
                return Shop(serve_asgi(ASGIHandler()), django_shop.RAN)

            yield start


def asked(path, method="GET", handler=None, **headers):
    """Through a WSGI handler, in this thread; the whole answer."""
    environ = {"HTTP_" + name.upper(): value for name, value in headers.items()}
    setup_testing_defaults(environ)
    environ |= {"PATH_INFO": path, "REQUEST_METHOD": method}
    head = []
    body = (handler or WSGIHandler())(environ, lambda *args: head.append(args))
    whole = b"".join(body)
    body.close()
    return SimpleNamespace(
        status=int(head[0][0][:3]),
        headers={name.lower(): value for name, value in head[0][1]},
        body=whole,
    )


async def asked_async(path, **headers):
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "http", "client": ("127.0.0.1", 1), "root_path": "",
        "headers": [(b"host", b"shop")]
        + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent = []
    requests = [{"type": "http.request", "body": b""}]

    async def receive():
        return requests.pop() if requests else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await ASGIHandler()(scope, receive, send)
    return sent[0]["status"]


def test_routes_are_named_as_django_writes_them_with_a_slash_in_front(service):
    shop_service = service()
    asked("/api/v1/users/7/")
    asked("/articles/1984/")
    asked("/")
    assert [span.name for span in shop_service.spans] == [
        "GET /api/v1/users/<int:pk>/",
        "GET /articles/(?P<year>[0-9]{4})/$",
        "GET /",
    ]


def test_a_view_that_is_an_object_is_refused_too(service):
    shop_service = service(user_header="x-user")
    django_shop.RAN.clear()
    shop_service.trip("u-1", "GET /articles/(?P<year>[0-9]{4})/$")
    assert asked("/articles/1984/", x_user="u-1").status == 503
    assert asked("/articles/1984/", x_user="u-2").status == 200
    assert django_shop.RAN == ["1984"]


def test_a_refusal_is_not_logged_as_an_error(service, caplog):
    """Django mails those to the service's admins."""
    shop_service = service(user_path_parameter="user")
    shop_service.trip("u-1", "POST /purchases/<user>")
    with caplog.at_level("WARNING"):
        assert asked("/purchases/u-1", "POST").status == 503
        assert asked("/handed-on").status == 503
        assert [record for record in caplog.records if record.name == "django.request"] == []
        asked("/fails")
    assert [record.levelname for record in caplog.records if record.name == "django.request"]


def test_a_refusal_that_leaves_a_middleware_is_answered_alike(service):
    shop_service = service()
    answer = asked("/healthz", x_refuse="1")
    assert (answer.status, answer.headers["heatshield-breaker"]) == (503, "b-97")
    (span,) = shop_service.spans
    assert span.attributes[REJECTED] == "b-97"
    assert span.status.status_code is StatusCode.UNSET
    assert asyncio.run(asked_async("/healthz", x_refuse="1")) == 503


def test_the_service_sees_its_own_views(service):
    service()
    assert asked("/whoami").body == b'{"view": "whoami"}'


def test_the_debug_page_shows_the_services_frames_only(service):
    service()
    with override_settings(DEBUG=True):
        page = asked("/fails").body.decode()
    assert "ZeroDivisionError" in page
    assert "in fails" in page
    assert "heatshield/integrations" not in page


def test_exceptions_propagate_where_django_is_told_so(service):
    shop_service = service()
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(ZeroDivisionError):
        asked("/fails")
    (event,) = shop_service.span("GET /fails").events
    assert event.attributes["exception.type"] == "ZeroDivisionError"


def test_whom_django_has_authenticated_is_the_user(service):
    shop_service = service(user_scope=True)
    asked("/healthz", x_login="u-7")
    asyncio.run(asked_async("/healthz", x_login="u-8"))
    with override_settings(ROOT_URLCONF=django_shop.ASYNC):
        asyncio.run(asked_async("/healthz", x_login="u-9"))
    users = [span.attributes[ENDUSER_ID] for span in shop_service.spans]
    assert users == ["u-7", "u-8", "u-9"]


def test_any_asgi_server_has_breakers_followed_before_the_view(service, monkeypatch):
    service()
    ran_before = []
    monkeypatch.setattr(Watch, "start", lambda _: ran_before.append(len(django_shop.RAN)))
    django_shop.RAN.clear()
    asyncio.run(asked_async("/named/u-1"))
    assert ran_before[0] == 0
    assert django_shop.RAN == ["u-1"]


def test_a_refused_views_transaction_is_rolled_back(service, monkeypatch):
    service()
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists purchases (id integer)")
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
        assert asked("/writes").status == 503
        cursor.execute("select count(*) from purchases")
        assert cursor.fetchone() == (0,)


def test_the_handler_of_runserver_makes_no_second_span(service):
    shop_service = service()
    with override_settings(STATIC_URL="/static/"):
        asked("/healthz", handler=StaticFilesHandler(WSGIHandler()))
    assert [span.name for span in shop_service.spans] == ["GET /healthz"]


def test_djangos_test_client_works_and_makes_no_spans(service):
    shop_service = service(user_path_parameter="user")
    shop_service.trip("u-1", "POST /purchases/<user>")
    assert Client().post("/purchases/u-1").status_code == 200
    assert shop_service.spans == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_beside_opentelemetrys_own_middleware_nothing_doubles(service, asynchronous):
    shop_service = service(user_path_parameter="user")
    instrumentor = DjangoInstrumentor()
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE]):
        instrumentor.instrument(skip_dep_check=True)
        try:

            def status(path):
                return asyncio.run(asked_async(path)) if asynchronous else asked(path).status

            assert status("/named/u-1") == 200
            (span,) = shop_service.spans
            assert (span.name, span.kind) == ("GET /named/<user>", SpanKind.SERVER)
            assert span.attributes[ENDUSER_ID] == "u-1"
            shop_service.trip("u-1", span.name)
            assert status("/named/u-1") == 503
            assert status("/wp-admin/17") == 404
            _, refused, unknown = shop_service.spans
            assert refused.status.status_code is StatusCode.UNSET
            assert refused.attributes[REJECTED]
            assert unknown.name == "GET"
        finally:
            instrumentor.uninstrument()


def test_instrumenting_does_not_configure_the_settings(run_python):
    """OpenTelemetry's own instrumentation does, and then the service can't any more."""
    done = run_python("""
import heatshield
heatshield.instrument(service="shop")
import django.core.handlers.wsgi
from django.conf import settings
assert heatshield.status()["integrations"]["django"] == "active", heatshield.status()
assert not settings.configured
settings.configure(DEBUG=True)
print("configured")
""")
    assert done.stdout.strip() == "configured", done.stderr


def test_without_anyio_django_is_served(run_python):
    done = run_python("""
import sys
sys.modules["anyio"] = None
import heatshield
heatshield.instrument(service="shop")
import django.core.handlers.asgi
print(heatshield.status()["integrations"]["django"])
""")
    assert done.stdout.strip() == "active", done.stderr


def test_removed_it_leaves_django_as_it_was(service):
    owners = (WSGIHandler, ASGIHandler, BaseHandler, exception)
    before = [dict(vars(owner)) for owner in owners]
    service()
    assert [dict(vars(owner)) for owner in owners] != before
    heatshield.shutdown()
    assert [dict(vars(owner)) for owner in owners] == before


def test_statements_that_django_makes_for_its_log_are_no_spans(service):
    """With ``DEBUG`` on SQLite it has each statement's parameters quoted by a further one."""
    made = service()
    connection.close()  # it may have been opened before
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    made.spans.clear()
    with override_settings(DEBUG=True), connection.cursor() as cursor:
        cursor.execute("SELECT %s + 1", [41])
        assert cursor.fetchall() == [(42,)]
        cursor.execute("SELECT QUOTE(%s)", ["own"])
        assert cursor.fetchall() == [("'own'",)]
    assert connection.queries[-1]["sql"] == "SELECT QUOTE('own')"
    assert len(made.spans) == 2
