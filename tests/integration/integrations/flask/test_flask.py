"""Flask, on real servers: one span a request, its user, refusal before the view."""

import gc
import math
import re

import flask
import pytest
import werkzeug.exceptions
from fastapi import FastAPI
from flask_shop import asked, divide, small_app
from opentelemetry.trace import INVALID_SPAN, get_current_span, get_tracer
from shop_behaviour import ShopBehaviour
from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import EnvironBuilder, create_environ, run_wsgi_app
from werkzeug.wsgi import FileWrapper

import heatshield
from heatshield.context.deadline import deadline_in
from heatshield.context.request import request_in
from heatshield.integrations.servers.wsgi import MOST_MOUNTS
from heatshield.names import CALL, COST_BYTES, ENDUSER_ID, REJECTED


class TestFlask(ShopBehaviour):
    template = staticmethod(lambda path: re.sub("USER", "<user>", path))


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


@pytest.mark.parametrize(
    ("within_s", "header", "status"), [(0.0, None, 504), (None, "0", 200), (60.0, "0", 504)]
)
def test_a_deadline_that_the_services_own_middleware_sets_is_heeded(
    service, within_s, header, status
):
    service()
    app = small_app(view=lambda user: user)
    original = app.wsgi_app

    def middleware(environ, start_response):
        with heatshield.deadline(within_s):
            return original(environ, start_response)

    app.wsgi_app = middleware
    headers = {} if header is None else {"heatshield-deadline": header}
    assert asked(app, path="/view/u-1", headers=headers).status_code == status


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_that_is_read_to_its_end_and_never_closed_is_a_request(service, fails):
    """As some servers, tests and middleware leave it."""
    shop_service = service()

    def view(user):
        def chunks():
            yield user.encode()
            if fails:
                raise ValueError(user)

        return flask.Response(chunks())

    body = small_app(view=view)(EnvironBuilder(path="/view/u-1").get_environ(), lambda *_: None)
    if fails:
        with pytest.raises(ValueError, match="u-1"):
            list(body)
    else:
        assert list(body) == [b"u-1"]
    (span,) = shop_service.spans
    assert span.attributes["http.response.body.size"] == 3
    body.close()
    assert len(shop_service.spans) == 1


@pytest.mark.parametrize("wrapper", [None, FileWrapper])
def test_an_answer_that_nobody_reads_or_closes_is_ended_by_the_next_request(
    service, tmp_path, wrapper
):
    """The garbage collector must not send: it comes while any lock may be held."""
    shop_service = service()
    (tmp_path / "file").write_bytes(b"x" * 100)
    app = small_app(view=lambda user: user)
    app.add_url_rule("/file", "file", lambda: flask.send_file(tmp_path / "file"))
    environ = EnvironBuilder(path="/file").get_environ()
    body = app(environ | ({"wsgi.file_wrapper": wrapper} if wrapper else {}), lambda *_: None)
    del body
    gc.collect()
    assert shop_service.spans == []
    asked(app, path="/view/u-1")
    assert [span.name for span in shop_service.spans] == ["GET /file", "GET /view/<user>"]


def test_flasks_methods_take_their_error_by_name(service):
    service()
    app = small_app(view=lambda user: user)
    with app.test_request_context("/view/u-1"):
        response = app.handle_user_exception(e=heatshield.BreakerOpen("b-1"))
        assert (response.status_code, response.headers["heatshield-breaker"]) == (503, "b-1")
        response = app.handle_exception(e=heatshield.BreakerOpen("b-1"))
        assert (response.status_code, response.headers["heatshield-breaker"]) == (503, "b-1")
        assert app.handle_user_exception(e=werkzeug.exceptions.NotFound()).code == 404
        assert app.handle_exception(e=KeyError("no")).status_code == 500
        with pytest.raises(TypeError, match="argument"):
            app.handle_exception()
