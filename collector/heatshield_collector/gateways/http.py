"""``/v1/check``: an answer to the subrequest that a gateway makes before it lets a request go on.

200 lets it go on; 503 or 429, with ``Retry-After`` and ``heatshield-breaker``, does not. Gateways
ask in two ways:

- **By parameters**, at ``/v1/check`` itself: ``service``, and ``user``, ``call``, ``method``,
  ``path`` where they are not in headers. NGINX, haproxy, Traefik, and programs do.
- **By path**, at ``/v1/check/<the request's own path>`` with the request's own method, as Envoy's
  ``ext_authz`` does. Here the query is that of the user's request, so nothing is read from it: the
  gateway says the rest in headers of its own.

The endpoint speaks ASGI itself, reads no body, and asks nothing but memory: it stands before each
request of a whole platform.
"""

import base64
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from heatshield import names
from heatshield.identity.credentials import text_of
from heatshield.identity.identify import Identity
from heatshield.rejection import BreakerOpen
from heatshield_collector.gateways.checks import Checks, Question
from heatshield_collector.http_caller import HttpCaller
from heatshield_collector.ports import AccessError, Authenticator, UnauthenticatedError
from heatshield_collector.ports import Scope as Permission

__all__ = ["Shortcut", "routes"]

STATUSES: Final = {"403": 403, "429": 429, "503": 503}
"""What ``refusal_status`` may be: gateways take some statuses for a failure of the collector's."""

_HEADERS: Final = {
    "service": names.CHECK_SERVICE_HEADER.encode(),
    "call": names.CHECK_CALL_HEADER.encode(),
    "user": names.CHECK_USER_HEADER.encode(),
    "refusal_status": names.CHECK_REFUSAL_STATUS_HEADER.encode(),
}
"""Of each parameter, the header that says it where parameters are the user's."""

_REMEMBERED_BYTES: Final = 256
"""A query of at most so many is parsed once."""

_METHOD: Final = b"x-forwarded-method"
_PATH: Final = b"x-forwarded-uri"
_PREFIX: Final = names.CHECK_PATH + "/"

Headers = dict[bytes, bytes]
_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


def routes(checks: Checks, identity: Identity, authenticator: Authenticator) -> list[Route]:
    """The routes, to be mounted in a Starlette or FastAPI application.

    Args:
        checks: decides.
        identity: reads the user from a header, and names it as services do.
        authenticator: asked first.
    """
    endpoint = _Endpoint(checks, identity, authenticator)
    return [
        Route(path, endpoint, name="check", include_in_schema=False)
        for path in (names.CHECK_PATH, _PREFIX + "{path:path}")
    ]


class Shortcut:
    """An application in which what gateways ask goes around its middleware and other routes.

    Those take longer than the answer.

    Args:
        app: what answers all else.
        asked: the routes of :func:`routes`.
    """

    def __init__(self, app: ASGIApp, asked: Sequence[Route]) -> None:
        self._app = app
        self._endpoint = asked[0].app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asks = scope["type"] == "http" and _is_asked(scope["path"])
        await (self._endpoint if asks else self._app)(scope, receive, send)


def _is_asked(path: str) -> bool:
    return path.startswith(_PREFIX) or path == names.CHECK_PATH


class _MisconfiguredError(Exception):
    """A gateway asks what can't be answered, at each of its requests; the text says what to do."""


class _GatewayCaller(HttpCaller):
    """As :class:`HttpCaller`; takes ``Basic``, too, for gateways that can send nothing else.

    The password is the token then, and the name says nothing.
    """

    @property
    def authorization(self) -> str:
        given = super().authorization
        kind, _, encoded = given.partition(" ")
        if kind.lower() != "basic":
            return given
        try:
            text = base64.b64decode(encoded.strip()).decode()
        except ValueError:  # no base64, or no text
            return ""
        return "Bearer " + text.partition(":")[2]


class _Endpoint:
    """Both routes as one ASGI application, for any method."""

    def __init__(self, checks: Checks, identity: Identity, authenticator: Authenticator) -> None:
        self._checks = checks
        self._identity = identity
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        status, headers, body = self._answer(scope)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    def _answer(self, scope: Scope) -> _Answer:
        try:
            self._authenticator.authenticate(_GatewayCaller(scope), Permission.ENFORCE)
            question, status = self._read(scope)
        except UnauthenticatedError as error:
            return _error(401, error, (b"www-authenticate", b"Bearer"))
        except AccessError as error:
            return _error(403, error)
        except _MisconfiguredError as error:
            return _error(400, error)
        refusal = self._checks.refusal(question)
        return (200, [], b"") if refusal is None else _refused(refusal, status or refusal.status)

    def _read(self, scope: Scope) -> tuple[Question, int]:
        """The question, and the status of a refusal; 0: its own."""
        headers: Headers = dict(scope["headers"])  # of several with one name, the last
        if scope["path"].startswith(_PREFIX):
            said = _by_headers(headers)
            method, path = scope["method"], _rest_of(scope)
        else:
            said = _by_parameters(scope["query_string"])
            method = said("method") or headers.get(_METHOD, b"").decode("latin-1")
            path = said("path") or headers.get(_PATH, b"").decode("latin-1")
        if not said("service"):
            raise _MisconfiguredError(_NO_SERVICE)
        status = said("refusal_status")
        if status and status not in STATUSES:
            raise _MisconfiguredError(f"refusal_status is one of {', '.join(STATUSES)}")
        user = self._user(said("user"), headers)
        question = Question(said("service"), user, said("call"), method, path)
        return question, STATUSES.get(status, 0)

    def _user(self, named: str, headers: Headers) -> str | None:
        if not named:
            found = self._identity.from_headers(headers)
            named = "" if found is None else found.user
        return self._identity.from_baggage(named)


_NO_SERVICE: Final = (
    f"say which service: {names.CHECK_PATH}?service=NAME, or below {_PREFIX} the header "
    f"{names.CHECK_SERVICE_HEADER}"
)

_Said = Callable[[str], str]
"""What a gateway says by a name; empty: nothing."""


def _by_parameters(query: bytes) -> _Said:
    parse = _remembered if len(query) <= _REMEMBERED_BYTES else _parameters
    found = parse(query)
    return lambda name: found.get(name, "")


def _parameters(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(text_of(query)))


_remembered = lru_cache(maxsize=256)(_parameters)
"""A gateway that says in headers what varies has the same query each time."""


def _by_headers(headers: Headers) -> _Said:
    return lambda name: text_of(headers.get(_HEADERS[name], b"")).strip()


def _rest_of(scope: Scope) -> str:
    """The path that a gateway has put behind ours, still encoded."""
    raw: bytes = scope.get("raw_path") or str(scope["path"]).encode()
    return raw.partition(b"?")[0].decode("latin-1")[len(_PREFIX) - 1 :]


def _refused(refusal: BreakerOpen, status: int) -> _Answer:
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    headers += [
        (names.CHECK_STATUS_HEADER.encode(), b"%d" % refusal.status),
        (b"cache-control", b"no-store"),
        (b"content-type", b"application/json"),
    ]
    return status, headers, json.dumps({"detail": str(refusal)}).encode()


def _error(status: int, error: Exception, *headers: tuple[bytes, bytes]) -> _Answer:
    body = json.dumps({"error": str(error)}).encode()
    return status, [(b"content-type", b"application/json"), *headers], body
