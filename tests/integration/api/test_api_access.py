"""Every route of the API and every method of gRPC asks the authenticator, before anything else."""

from contextlib import suppress
from typing import cast

import grpc
import pytest
from listeners import grpc_listener, loop_thread
from recording_committer import RecordingCommitter
from starlette.routing import Route

from heatshield.call_key import DEFAULT_TENANT
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings, SettingsError
from heatshield_collector.api.scopes import scope_of
from heatshield_collector.authenticator import AdminTokenAuthenticator, check_reach
from heatshield_collector.gateways import Checks
from heatshield_collector.gateways import routes as check_routes
from heatshield_collector.intake.grpc import GRPC_SERVICES
from heatshield_collector.intake.http import routes
from heatshield_collector.ports import (
    AccessError,
    ForbiddenError,
    Principal,
    Scope,
    UnauthenticatedError,
)
from heatshield_collector.settings import CollectorSettings

from .conftest import Face

LIMIT = 1024


class ExpiredError(UnauthenticatedError):
    """What another authenticator may raise."""


class Denying:
    """Lets no caller through; remembers what was asked for."""

    def __init__(self, error):
        self.error = error
        self.asked = []

    def authenticate(self, caller, scope):
        self.asked.append((caller.authorization, scope))
        raise self.error


def face_behind(face: Face, authenticator) -> Face:
    committer = RecordingCommitter()
    ports = face.ports.__class__(
        **{
            name: getattr(face.ports, name)
            for name in face.ports.__slots__
            if name != "authenticator"
        },
        authenticator=authenticator,
    )
    return Face(
        ports,
        intake=[
            *check_routes(cast("Checks", None), Identity(ServiceSettings()), authenticator),
            *routes(committer, LIMIT, committer, authenticator),
        ],
    )


def every_route(app):
    """(method, path) of all that the application answers, its documentation and intake too."""
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path.format(trace_id="ab" * 16, entry_id="b-1")
    for route in app.routes:  # those that OpenAPI does not list
        if isinstance(route, Route):
            # An endpoint that is an application itself takes any method; telemetry is posted.
            for method in route.methods or {"POST"}:
                yield method, route.path


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnauthenticatedError("say who you are"), 401),
        (ForbiddenError("not you"), 403),
        (ExpiredError("the token has expired"), 401),
        (AccessError("an authenticator of its own kind"), 403),
    ],
)
def test_every_route_asks_and_refuses(face, error, status):
    denying = Denying(error)
    behind = face_behind(face, denying)
    known = sorted(set(every_route(behind.app)))
    assert {("GET", "/docs"), ("POST", "/v1/check"), ("POST", "/v1/traces")} <= set(known)
    for method, path in known:
        denying.asked.clear()
        body = {"user": "u", "service": "s", "call": "c", "mode": "protect"}
        answer = behind.call(
            method,
            path,
            headers={"Authorization": "Bearer t"},
            json=body if method in ("POST", "PUT") else None,
        )
        assert answer.status_code == status, (method, path)
        assert [given for given, _ in denying.asked] == ["Bearer t"], (method, path)
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer", (method, path)
        if method != "HEAD" and path not in ("/v1/traces", "/v1/logs", "/v1/metrics"):
            assert answer.json() == {"error": str(error)}, (method, path)


def test_what_changes_something_needs_control_unless_it_is_said_otherwise():
    assert scope_of("GET", "/api/new") is Scope.READ
    assert scope_of("POST", "/api/new") is Scope.CONTROL
    assert scope_of("PUT", "/api/mode") is Scope.CONTROL
    assert scope_of("GET", "/v1/breakers") is Scope.ENFORCE
    assert scope_of("POST", "/v1/breakers") is Scope.CONTROL
    assert scope_of("POST", "/v1/breakers/report") is Scope.ENFORCE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnauthenticatedError("say who you are"), grpc.StatusCode.UNAUTHENTICATED),
        (ForbiddenError("not you"), grpc.StatusCode.PERMISSION_DENIED),
        (ExpiredError("the token has expired"), grpc.StatusCode.UNAUTHENTICATED),
        (AccessError("an authenticator of its own kind"), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
def test_every_method_of_grpc_asks_and_refuses(error, code):
    denying = Denying(error)
    committer = RecordingCommitter()
    with (
        loop_thread() as thread,
        grpc_listener(thread, committer, LIMIT, denying) as address,
        grpc.insecure_channel(address) as channel,
    ):
        for service in GRPC_SERVICES:
            denying.asked.clear()
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{service}/Export")(
                    b"", metadata=(("authorization", "Bearer t"),), timeout=20
                )
            assert (refused.value.code(), refused.value.details()) == (code, str(error))
            assert denying.asked == [("Bearer t", Scope.INGEST)]
    assert committer.payloads == []


class Bearing:
    """A caller with an ``Authorization`` header."""

    def __init__(self, authorization=""):
        self.authorization = authorization


def may(authenticator, authorization):
    """The scopes that the authenticator lets such a caller use."""
    allowed = set()
    for scope in Scope:
        with suppress(AccessError):
            authenticator.authenticate(Bearing(authorization), scope)
            allowed.add(scope)
    return allowed


def test_without_a_token_every_caller_may_do_all_but_control():
    authenticator = AdminTokenAuthenticator("", "left")
    principal = authenticator.authenticate(Bearing(), Scope.INGEST)
    assert principal == Principal(DEFAULT_TENANT, frozenset(Scope) - {Scope.CONTROL})
    assert may(authenticator, "") == set(Scope) - {Scope.CONTROL}
    assert may(authenticator, "Bearer left") == set(Scope)
    assert may(AdminTokenAuthenticator(), "Bearer ") == set(Scope) - {Scope.CONTROL}


def test_with_a_token_callers_need_it_for_all_but_health_and_admins_may_do_everything():
    authenticator = AdminTokenAuthenticator("set", "left", token="all")  # noqa: S106
    assert may(authenticator, "") == may(authenticator, "Bearer wrong") == {Scope.HEALTH}
    assert may(authenticator, "Basic all") == {Scope.HEALTH}
    assert may(authenticator, "Bearer all") == set(Scope) - {Scope.CONTROL}
    assert may(authenticator, "Bearer set") == may(authenticator, "bearer left") == set(Scope)


@pytest.mark.parametrize(
    "settings",
    [
        {"http": "0.0.0.0:4318"},
        {"http": ":4318"},
        {"http": "[::]:4318"},
        {"http": "10.0.0.7:4318"},
        {"http": "collector.internal:4318", "admin_token": "of an admin"},
        {"grpc": "0.0.0.0:4317"},
    ],
)
def test_beyond_loopback_a_collector_needs_a_token_and_says_how_to_make_one(settings):
    with pytest.raises(SettingsError, match=r"openssl rand -hex 32.*HEATSHIELD_COLLECTOR_TOKEN"):
        check_reach(CollectorSettings(**settings))
    check_reach(CollectorSettings(**settings, token="of callers"))  # noqa: S106


@pytest.mark.parametrize(
    "settings", [{}, {"http": "localhost:1", "grpc": "off"}, {"http": "[::1]:1", "grpc": "[::1]:2"}]
)
def test_on_loopback_a_collector_starts_without_ceremony(settings):
    check_reach(CollectorSettings(**settings))
