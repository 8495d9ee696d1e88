"""No secret of the corpus leaves by a server's failure or a client's address.

Each framework raises an exception with every text of the corpus, is asked with secrets in query,
headers and cookies, and calls another server so.
"""

import logging
import types

import pytest
from canaries import MARK, TEXTS, canaries_in, sent

SECRET = f"{MARK}x7"
QUERY = f"token={SECRET}&user[password]={SECRET}&code={SECRET}&page=2"
HEADERS = {
    "Authorization": f"Bearer {SECRET}", "Cookie": f"sid={SECRET}", "X-Api-Key": SECRET,
    "Referer": f"https://u:{SECRET}@h/?token={SECRET}",
}  # fmt: skip


@pytest.fixture
def made(service):
    made = service()
    handler = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    yield made
    root.removeHandler(handler)


def asked(made, ask, url):
    """Have the server fail with every text, and ask it with secrets; the bytes that were sent."""
    for at in range(len(TEXTS)):
        assert ask(f"{url}/fail/{at}", headers=HEADERS).status == 500
    ask(f"{url}/fail/0?{QUERY}", headers=HEADERS)
    ask(f"{url}/away?{QUERY}", "POST", f"password={SECRET}".encode(), HEADERS)
    return sent(made)


def test_flask(made, ask, serve_wsgi):
    import flask

    app = flask.Flask("shop")

    @app.get("/fail/<int:at>")
    def fail(at):
        app.logger.warning("asked with %s and %s", flask.request.headers, flask.request.url)
        raise ValueError(TEXTS[at])

    payload = asked(made, ask, serve_wsgi(app))
    assert canaries_in(payload) == []
    assert b"/fail/<int:at>" in payload
    assert b"ValueError" in payload


def test_fastapi(made, ask, serve_asgi):
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/fail/{at}")
    def fail(at: int, request: fastapi.Request):
        log = logging.getLogger("shop")
        log.warning("asked with %s and %s", request.headers.raw, request.url)
        log.warning("asked with %r", dict(request.headers))
        raise ValueError(TEXTS[at])

    payload = asked(made, ask, serve_asgi(app))
    assert canaries_in(payload) == []
    assert b"/fail/{at}" in payload
    assert b"ValueError" in payload


def test_django(made, ask, serve_wsgi):
    import django_shop  # configures Django
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings
    from django.urls import path

    def fail(request, at):
        logging.getLogger("shop").warning("asked with %s", request.META.get("HTTP_COOKIE"))
        logging.getLogger("shop").warning("asked with %r", dict(request.headers))
        raise ValueError(TEXTS[at])

    urls = types.ModuleType("canary_urls")
    urls.urlpatterns = [path("fail/<int:at>", fail)]
    assert django_shop
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
        payload = asked(made, ask, serve_wsgi(WSGIHandler()))
    assert canaries_in(payload) == []
    assert b"ValueError" in payload


@pytest.mark.parametrize("library", ["httpx", "requests", "urllib3"])
def test_clients(made, serve_wsgi, library):
    def app(_environ, start):
        start("404 Not Found", [("Content-Length", "0")])
        return [b""]

    url = serve_wsgi(app).replace("://", f"://zoe:{SECRET}@") + f"/x?{QUERY}"
    client = pytest.importorskip(library)
    if library == "urllib3":
        client.PoolManager().request("GET", url.replace(f"zoe:{SECRET}@", ""), headers=HEADERS)
    else:
        answer = client.get(url, headers=HEADERS)
        with pytest.raises(client.HTTPError if library == "requests" else client.HTTPStatusError):
            answer.raise_for_status()
    try:
        client.get(f"http://zoe:{SECRET}@127.0.0.1:9/?{QUERY}")
    except Exception:
        logging.getLogger("shop").exception("away")
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"page=2" in payload


def test_celery(made):
    import celery

    app = celery.Celery("shop", broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True

    @app.task(name="fail")
    def fail(at, *_args, **_kwargs):
        raise ValueError(TEXTS[at])

    log = logging.getLogger("celery.app.trace")
    for at in range(len(TEXTS)):
        result = fail.apply_async((at,), {"password": SECRET}, headers={"x-api-key": SECRET})
        log.error("Task failed: %r", result.result, extra={"data": {"kwargs": {"token": SECRET}}})
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"ValueError" in payload


def test_aiohttp(made, ask, in_loop):
    from aiohttp import web

    async def fail(request):
        logging.getLogger("shop").warning("asked with %s and %s", request.headers, request.url)
        raise ValueError(TEXTS[int(request.match_info["at"])])

    async def start():
        app = web.Application()
        app.router.add_get("/fail/{at}", fail)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, site._server.sockets[0].getsockname()[1]

    runner, port = in_loop(start())
    payload = asked(made, ask, f"http://127.0.0.1:{port}")
    in_loop(runner.cleanup())
    assert canaries_in(payload) == []
    assert b"/fail/{at}" in payload


def test_grpc(made):
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def fail(request, context):
        text = TEXTS[request[0]]
        if request[0] % 2:
            context.abort(grpc.StatusCode.INTERNAL, text)
        raise ValueError(text)

    method = grpc.unary_unary_rpc_method_handler(fail)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("Shop", {"Fail": method})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/Shop/Fail")
        for at in range(len(TEXTS)):
            with pytest.raises(grpc.RpcError) as caught:
                call(bytes([at]), metadata=[("x-api-key", SECRET), ("authorization", SECRET)])
            error = caught.value
            logging.getLogger("shop").error("away: %s", error, exc_info=error)
            logging.getLogger("shop").error("away: %r", error.details())
    server.stop(None).wait()
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b"Shop/Fail" in payload
