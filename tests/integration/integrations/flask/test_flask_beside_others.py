"""Flask beside OpenTelemetry's instrumentations and other patches, and as its server ends."""

import flask
import pytest
from flask_shop import asked, small_app
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.trace import SpanKind, StatusCode
from werkzeug.test import Client

import heatshield
from heatshield.context.request import request_in
from heatshield.names import ENDUSER_ID, REJECTED


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
