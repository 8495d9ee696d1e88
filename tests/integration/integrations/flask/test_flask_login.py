"""The user whom Flask-Login has logged in, by the setting ``user_scope``."""

import flask_login
import pytest
from flask import Flask
from flask.globals import request_ctx

from heatshield.integrations.servers.flask_login import logged_in
from heatshield.names import ENDUSER_ID, REJECTED, USER_SOURCE


class User(flask_login.UserMixin):
    def __init__(self, name):
        self.id = name


@pytest.fixture
def shop():
    app = Flask("shop", static_folder=None)
    app.secret_key = "k" * 16
    manager = flask_login.LoginManager(app)
    app.loaded = []

    @manager.user_loader
    def load(name):
        app.loaded.append(name)
        return User(name)

    @manager.request_loader
    def load_by_token(request):
        token = request.headers.get("x-token")
        return User(token) if token else None

    @app.get("/login/<name>")
    def login(name):
        flask_login.login_user(User(name), remember="remember" in name)
        return "in"

    @app.get("/page")
    def page():
        return "page"

    @app.get("/mine")
    @flask_login.login_required
    def mine():
        app.ran = True
        return "mine"

    app.ran = False
    return app


def last(made, name):
    return [span for span in made.spans if span.name == name][-1]


def ask(client, path, **more):
    return client.get(path, buffered=True, **more)


def test_the_user_of_a_session_is_named_and_not_loaded_for_that(service, shop):
    made, client = service(user_scope=True), shop.test_client()
    ask(client, "/login/u-1")
    ask(client, "/page")
    span = last(made, "GET /page")
    assert (span.attributes[ENDUSER_ID], span.attributes[USER_SOURCE]) == ("u-1", "auth")
    assert shop.loaded == []
    assert last(made, "GET /login/<name>").attributes[ENDUSER_ID] == "u-1"


def test_the_session_does_not_count_as_accessed_for_that(service, shop):
    """Which would add ``Vary: Cookie`` to pages that are the same for all users."""
    service(user_scope=True)
    with shop.test_request_context("/page"):
        context = getattr(request_ctx, "_get_current_object")()  # noqa: B009
        raw = vars(context)
        session = raw.get("_session", raw.get("session"))
        session["_user_id"] = "u-1"
        session.accessed = False
        assert logged_in() == "u-1"
        assert not session.accessed


def test_without_the_setting_nobody_is(service, shop):
    made, client = service(), shop.test_client()
    ask(client, "/login/u-1")
    ask(client, "/mine")
    assert ENDUSER_ID not in last(made, "GET /mine").attributes


def test_anonymous_is_nobody(service, shop):
    made = service(user_scope=True)
    assert ask(shop.test_client(), "/mine").status_code == 401
    assert ENDUSER_ID not in last(made, "GET /mine").attributes


def test_a_remembered_user_is_named_when_the_service_loads_that_user(service, shop):
    made, client = service(user_scope=True), shop.test_client()
    ask(client, "/login/remember-1")
    client.delete_cookie("session")
    ask(client, "/mine")
    assert last(made, "GET /mine").attributes[ENDUSER_ID] == "remember-1"


def test_a_tripped_user_is_refused_before_the_view(service, shop):
    made, client = service(user_scope=True), shop.test_client()
    ask(client, "/login/u-1")
    entry = made.trip("u-1", "GET /mine")
    assert ask(client, "/mine").status_code == 503
    assert last(made, "GET /mine").attributes[REJECTED] == entry
    assert not shop.ran
    assert shop.loaded == []


def test_a_tripped_user_who_comes_by_a_token_is_refused_when_loaded(service, shop):
    made = service(user_scope=True)
    entry = made.trip("u-1", "GET /mine")
    client = shop.test_client()
    assert ask(client, "/mine", headers={"x-token": "u-1"}).status_code == 503
    assert last(made, "GET /mine").attributes[REJECTED] == entry
    assert not shop.ran
    assert ask(client, "/mine", headers={"x-token": "u-2"}).text == "mine"
