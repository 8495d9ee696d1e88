"""Flask, on real servers: one span a request, its user, refusal before the view."""

import math
import re

import flask
import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, get_current_span, get_tracer
from shop_behaviour import Shop, ShopBehaviour
from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, EnvironBuilder, create_environ, run_wsgi_app
from werkzeug.wsgi import FileWrapper

import heatshield
from heatshield.context.deadline import deadline_in
from heatshield.context.request import request_in
from heatshield.integrations.servers.wsgi import MOST_MOUNTS
from heatshield.names import CALL, COST_BYTES, ENDUSER_ID, REJECTED


class Rejection:
    """A downstream's."""

    status_code = 503
    headers = {"heatshield-breaker": "b-99", "retry-after": "7"}  # noqa: RUF012


def shop_app(ran):  # noqa: C901  # one shop
    app = flask.Flask("shop")

    @app.before_request
    def name():
        if "x-session" in flask.request.headers:
            heatshield.user(flask.request.headers["x-session"])

    @app.post("/purchases/<user>")
    def buy(user):
        ran.append(user)
        return {"bought": user}

    @app.post("/echo")
    def echo():
        return flask.request.get_data()

    @app.get("/stream")
    def stream():
        def chunks():
            for _ in range(3):
                with get_tracer("test").start_as_current_span("chunk"):
                    yield b"x" * 1_000

        return flask.Response(chunks())

    @app.get("/fails")
    def fails():
        return str(1 / 0)

    @app.get("/named/<user>")
    def named(user):
        heatshield.user(user)
        ran.append(user)
        return {}

    @app.get("/guarded/<user>")
    def guarded(user):
        with heatshield.guard("refresh"):
            return {}

    @app.get("/handed-on")
    def handed_on():
        heatshield.raise_for_rejection(Rejection())

    @app.get("/own-words")
    def own_words():
        return "come back later", 503, {"heatshield-breaker": "b-98"}

    @app.get("/healthz")
    def healthz():
        return {}

    return app


@pytest.fixture
def open_shop(serve_wsgi):
    def start():
        shop = Shop()
        shop.url = serve_wsgi(shop_app(shop.ran))
        return shop

    return start


class TestFlask(ShopBehaviour):
    template = staticmethod(lambda path: re.sub("USER", "<user>", path))


def asked(app, method="GET", path="/", **more):
    """Through the application's own client: no server, one thread."""
    with app.test_client() as client:
        response = client.open(path, method=method, **more)
        response.get_data()
        response.close()
        return response


def divide(user):
    return str(1 / 0)


def small_app(**views):
    app = flask.Flask("small")
    for name, view in views.items():
        app.add_url_rule(f"/{name}/<user>", name, view)
    return app


def test_an_error_handler_for_everything_does_not_swallow_a_refusal(service):
    shop_service = service(user_path_parameter="user")
    entry_id = shop_service.trip("u-1", "refresh")

    def view(user):
        with heatshield.guard("refresh"):
            return user

    app = small_app(view=view)
    seen = []
    app.register_error_handler(Exception, lambda error: (seen.append(error), ("oh no", 500))[1])
    response = asked(app, path="/view/u-1")
    assert (response.status_code, response.headers["heatshield-breaker"]) == (503, entry_id)
    assert seen == []


def test_an_error_handler_for_refusals_has_the_last_word(service):
    shop_service = service()

    def view(user):
        raise heatshield.BreakerOpen("b-1")

    app = small_app(view=view)

    @app.errorhandler(heatshield.BreakerOpen)
    def refused(error):
        return "come back later", 503, error.headers

    response = asked(app, path="/view/u-1")
    assert (response.status_code, response.text) == (503, "come back later")
    assert shop_service.span("GET /view/<user>").attributes[REJECTED] == "b-1"


def test_a_refusal_after_the_request_is_answered_too(service):
    service()
    app = small_app(view=lambda user: user)

    @app.after_request
    def refuse(response):
        if response.status_code == 200:
            raise heatshield.BreakerOpen("b-1")
        return response

    response = asked(app, path="/view/u-1")
    assert (response.status_code, response.headers["heatshield-breaker"]) == (503, "b-1")


@pytest.mark.parametrize("setting", ["TESTING", "DEBUG"])
def test_in_debug_mode_an_error_leaves_the_application_as_ever(service, setting):
    shop_service = service()
    app = small_app(view=divide)
    app.config[setting] = True
    with pytest.raises(ZeroDivisionError) as caught:
        asked(app, path="/view/u-1")
    assert caught.traceback[-1].name == "divide"
    (event,) = shop_service.span("GET /view/<user>").events
    assert event.attributes["exception.type"] == "ZeroDivisionError"


def test_the_debugger_shows_the_services_frames_only(service, ask, serve_wsgi):
    service()
    app = small_app(view=divide)
    app.debug = True
    url = serve_wsgi(DebuggedApplication(app))
    page = ask(f"{url}/view/u-1").body.decode()
    assert "ZeroDivisionError" in page
    assert "heatshield/integrations" not in page


def test_views_of_blueprints_and_views_that_are_async(service):
    shop_service = service(user_path_parameter="user")
    blueprint = flask.Blueprint("api", "api", url_prefix="/api/<version>")
    ran = []

    @blueprint.get("/users/<user>")
    async def show(version, user):
        with get_tracer("test").start_as_current_span("inner"):
            ran.append(user)
        return user

    app = flask.Flask("shop")
    app.register_blueprint(blueprint)
    assert asked(app, path="/api/v1/users/u-1").status_code == 200
    call = "GET /api/<version>/users/<user>"
    assert shop_service.span("inner").attributes[CALL] == call
    assert shop_service.span("inner").parent_id == shop_service.span(call).span_id
    shop_service.trip("u-1", call)
    assert asked(app, path="/api/v1/users/u-1").status_code == 503
    assert ran == ["u-1"]


def test_an_application_in_another_is_named_by_its_mount(service):
    shop_service = service(user_path_parameter="user")
    outer, inner = small_app(view=lambda user: user), small_app(view=lambda user: user)
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/inner": inner})
    shop_service.trip("u-1", "GET /inner/view/<user>")
    assert asked(outer, path="/inner/view/u-1").status_code == 503
    assert asked(outer, path="/view/u-1").status_code == 200
    names = [span.name for span in shop_service.spans]
    assert names == ["GET /inner/view/<user>", "GET /view/<user>"]


def test_within_a_fastapi_application_it_is_part_of_that_ones_request(
    service, serve_asgi, ask, until
):
    shop_service = service(user_path_parameter="user")
    inner = small_app(view=lambda user: user.ljust(100))

    async def adapter(scope, receive, send):
        environ = create_environ("/view/u-1") | {"SCRIPT_NAME": "/flask"}
        body, _, _ = run_wsgi_app(inner, environ, buffered=True)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"".join(body)})

    outer = FastAPI()
    outer.mount("/flask", adapter)
    url = serve_asgi(outer)
    assert len(ask(f"{url}/flask/view/u-1").body) == 100
    (span,) = until(lambda: list(shop_service.spans))
    assert span.name == "GET /flask/view/<user>"
    assert span.attributes[COST_BYTES] == 100


def test_mounts_that_callers_choose_do_not_make_names_without_end(service):
    shop_service = service()
    app = small_app(view=lambda user: user)
    inside = app.wsgi_app

    def prefixed(environ, start_response):
        return inside({**environ, "SCRIPT_NAME": environ["HTTP_X_PREFIX"]}, start_response)

    app.wsgi_app = prefixed
    for number in range(MOST_MOUNTS + 10):
        asked(app, path="/view/u-1", headers={"x-prefix": f"/{number}"})
    names = [span.name for span in shop_service.spans]
    assert len(set(names)) == MOST_MOUNTS + 1
    assert names[-1] == "GET /view/<user>"


def test_behind_a_prefix_of_the_server_names_stay_the_same(service):
    shop_service = service()
    app = small_app(view=lambda user: user)
    asked(app, path="/view/u-1", environ_overrides={"SCRIPT_NAME": "/shop"})
    assert shop_service.span("GET /view/<user>").attributes["url.path"] == "/shop/view/u-1"


def test_a_redirect_to_the_slash_is_no_call(service):
    shop_service = service()
    app = flask.Flask("shop")
    app.add_url_rule("/users/", "users", lambda: "")
    assert asked(app, path="/users").status_code == 308
    assert [span.name for span in shop_service.spans] == ["GET"]


def test_whom_the_server_has_authenticated_is_the_user(service):
    shop_service = service(user_scope=True)
    app = small_app(view=lambda user: user)
    asked(app, path="/view/u-1", environ_overrides={"REMOTE_USER": "u-7"})
    assert shop_service.span("GET /view/<user>").attributes[ENDUSER_ID] == "u-7"


def test_what_still_runs_for_a_request_that_is_answered_may_take_its_time(service):
    service()
    deadlines = []
    app = small_app(view=lambda user: (deadlines.append(deadline_in()), user)[1])
    asked(app, path="/view/u-1", headers={"heatshield-deadline": "1000"})
    assert deadlines[0].at == math.inf


def test_whatever_a_service_sets_on_its_span_it_ends(service):
    shop_service = service()

    def view(user):
        get_current_span().set_attribute(COST_BYTES, "lots")
        return user

    asked(small_app(view=view), path="/view/u-1")
    assert shop_service.span("GET /view/<user>").attributes[COST_BYTES] == 3


def test_files_are_handed_to_the_server_as_they_are(service, tmp_path):
    """So that it can send them without reading them here."""
    shop_service = service()
    (tmp_path / "file").write_bytes(b"x" * 100)
    app = flask.Flask("shop")
    app.add_url_rule("/file", "file", lambda: flask.send_file(tmp_path / "file"))
    environ = EnvironBuilder(path="/file").get_environ() | {"wsgi.file_wrapper": FileWrapper}
    body = app(environ, lambda *_: None)
    assert type(body) is FileWrapper
    assert b"".join(body) == b"x" * 100
    assert shop_service.spans == []
    body.close()
    assert shop_service.span("GET /file").attributes["http.response.body.size"] == 100


def test_a_request_leaves_nothing_behind_in_its_thread(service):
    service()
    asked(small_app(view=lambda user: user), path="/view/u-1")
    assert request_in() is None
    assert get_current_span() is INVALID_SPAN


@pytest.mark.parametrize("how", ["global, before", "global, after", "one application"])
def test_beside_opentelemetrys_own_instrumentation_nothing_doubles(service, how):
    instrumentor = FlaskInstrumentor()
    if how == "global, before":
        instrumentor.instrument(skip_dep_check=True)
    shop_service = service(user_path_parameter="user")
    if how == "global, after":
        instrumentor.instrument(skip_dep_check=True)
    try:
        app = flask.Flask("shop")
        app.add_url_rule("/view/<user>", "view", lambda user: user)
        if how == "one application":
            instrumentor.instrument_app(app)
        assert asked(app, path="/view/u-1").status_code == 200
        (span,) = shop_service.spans
        assert (span.name, span.kind) == ("GET /view/<user>", SpanKind.SERVER)
        assert span.attributes[ENDUSER_ID] == "u-1"
        shop_service.trip("u-1", span.name)
        assert asked(app, path="/view/u-1").status_code == 503
        asked(app, path="/wp-admin/17")
        _, refused, unknown = shop_service.spans
        assert refused.status.status_code is StatusCode.UNSET
        assert refused.attributes[REJECTED]
        assert unknown.name == "GET"
    finally:
        if how != "one application":
            instrumentor.uninstrument()


def test_beside_opentelemetrys_middleware_nothing_doubles(service):
    shop_service = service(user_path_parameter="user")
    app = small_app(view=lambda user: user)
    wrapped = OpenTelemetryMiddleware(app)
    shop_service.trip("u-1", "GET /view/<user>")
    response = Client(wrapped).get("/view/u-1")
    assert response.status_code == 503
    response.close()
    (span,) = shop_service.spans
    assert (span.name, span.kind) == ("GET /view/<user>", SpanKind.SERVER)
    assert span.attributes[REJECTED]


def test_under_somebody_elses_patch_it_can_only_stay_out_of_the_way(service, monkeypatch):
    service()
    ours = flask.Flask.wsgi_app

    def theirs(app, environ, start_response):
        return ours(app, environ, start_response)

    monkeypatch.setattr(flask.Flask, "wsgi_app", theirs)
    seen = []
    app = small_app(view=lambda user: (seen.append(request_in()), user)[1])
    asked(app, path="/view/u-1")
    heatshield.shutdown()
    asked(app, path="/view/u-1")
    assert [request is not None for request in seen] == [True, False]


def test_a_server_that_ends_sends_what_is_queued(run_python, collector):
    done = run_python(
        """
import os, threading
from http.client import HTTPConnection
import heatshield
heatshield.instrument(service="shop")
import flask
from werkzeug.serving import make_server
app = flask.Flask("shop")
app.add_url_rule("/", "root", lambda: "")
server = make_server("127.0.0.1", 0, app)
thread = threading.Thread(target=server.serve_forever)
thread.start()
connection = HTTPConnection("127.0.0.1", server.server_port)
connection.request("GET", "/")
connection.getresponse().read()
server.shutdown()
thread.join()
os._exit(0)  # no exit handler runs
""",
        HEATSHIELD_FLUSH_INTERVAL_S="600",
    )
    assert [span.name for _, span in collector.spans] == ["GET /"], done.stderr


def test_removed_it_leaves_flask_as_it_was(service):
    before = dict(vars(flask.Flask))
    service()
    assert dict(vars(flask.Flask)) != before
    heatshield.shutdown()
    assert dict(vars(flask.Flask)) == before
