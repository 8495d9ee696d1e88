"""A shop on Flask, and small applications."""

import flask
from opentelemetry.trace import get_tracer

import heatshield


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
