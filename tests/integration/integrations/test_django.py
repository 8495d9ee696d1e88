"""Django, over WSGI under wsgiref and over ASGI under uvicorn."""

import re
import socketserver
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django_shop
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from shop_behaviour import Shop, ShopBehaviour


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
