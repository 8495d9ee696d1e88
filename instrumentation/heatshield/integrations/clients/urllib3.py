"""urllib3: one span a call of a pool, with the tries that it makes; a redirect is another call.

urllib3 retries a 503 that says ``Retry-After`` by default, after waiting as long as it says. A
rejection says both and is not to be retried, so the service gets it at once.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Final, Protocol, cast

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.http_call import Call, Calls, abandoning, letting_go, reading
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original, Patches, Wrapper
from heatshield.integrations.services import Services
from heatshield.names import BREAKER_HEADER
from heatshield.rejection import UNAVAILABLE

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["NAME", "answered", "follow_responses", "install", "leave_responses", "remove"]

NAME: Final = "urllib3"

BODY_AT: Final = 2
HEADERS_AT: Final = 3
"""Where these stand among the arguments of ``urlopen``: after method and URL."""

_CHUNKED: Final = "_heatshield_chunked"
"""Attribute of a response: bytes that were read by chunks."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REJECTED: Final[ContextVar[bool]] = ContextVar("heatshield-rejected", default=False)
"""Whether the last answer in this context was a rejection."""

_PATCHES: Final = Patches()
_RESPONSES: Final = Patches()
_FOLLOWING: Final[set[str]] = set()
"""Integrations that follow responses: this one, and that of requests."""

Args = tuple[object, ...]
Kwargs = dict[str, object]


class _Headers(Protocol):
    def copy(self) -> MutableMapping[str, str]: ...

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, name: str, /) -> str: ...


class _Retries(Protocol):
    history: tuple[object, ...]


class Response(Protocol):
    """What is read of a response of urllib3."""

    status: int
    headers: MutableMapping[str, str]
    retries: _Retries | None

    def isclosed(self) -> bool:
        """Whether its body has been read, or its connection been given back."""
        ...

    def tell(self) -> int:
        """Bytes of the body that were read, but for those read by chunks."""
        ...


def install(services: Services) -> None:
    """Patch every pool; replaces an earlier patch.

    Raises:
        ImportError: if urllib3 is not installed.
    """
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.util.retry import Retry

    _PATCHES.undo()
    _PATCHES.wrap(HTTPConnectionPool, "_make_request", _trying)
    _PATCHES.wrap(Retry, "is_retry", _retrying)
    calls = Calls(NAME, services, OtelContrib("urllib3", "URLLib3Instrumentor"))
    _PATCHES.wrap(HTTPConnectionPool, "urlopen", _calling(calls))
    follow_responses(NAME)


def remove() -> None:
    """Take the patches out again."""
    leave_responses(NAME)
    _PATCHES.undo()
    Calls.retire(NAME)


def follow_responses(user: str) -> None:
    """End calls when their responses are let go.

    Args:
        user: the integration that asks for it, until :func:`leave_responses`.
    """
    from urllib3.response import HTTPResponse

    if not _FOLLOWING:
        for method in ("release_conn", "close"):
            _RESPONSES.wrap(HTTPResponse, method, letting_go(_received))
        for method in ("read", "drain_conn"):
            _RESPONSES.wrap(HTTPResponse, method, reading(_received))
        _RESPONSES.wrap(HTTPResponse, "read_chunked", _counting)
        _RESPONSES.wrap(HTTPResponse, "__del__", abandoning)  # urllib3-future's
    _FOLLOWING.add(user)


def leave_responses(user: str) -> None:
    """Follow no more responses for this integration."""
    _FOLLOWING.discard(user)
    if not _FOLLOWING:
        _RESPONSES.undo()


@fail_open(NAME, None)
def answered(call: Call, response: Response) -> None:
    """Say on a call what urllib3 answered."""
    if not hasattr(response, "status"):  # urllib3-future's promise of a response
        call.end()
        return
    call.answered(response.status, response.headers)
    _count_tries(call, response)
    if _is_over(response):
        call.end(_received(response))
    else:
        call.follow(response)


def _calling(calls: Calls) -> Wrapper:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def urlopen(pool: "HTTPConnectionPool", *args: object, **kwargs: object) -> object:
            call = _begin(calls, pool, args, kwargs)
            if call is None:
                return original(pool, *args, **kwargs)
            args, kwargs = _with_headers(pool, args, kwargs, call)
            try:
                response = original(pool, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            answered(call, cast("Response", response))
            return response

        return urlopen

    return wrap


@fail_open(NAME, None)
def _begin(calls: Calls, pool: "HTTPConnectionPool", args: Args, kwargs: Kwargs) -> Call | None:
    method = str(args[0] if args else kwargs["method"])
    url = str(args[1] if len(args) > 1 else kwargs["url"])
    body = args[BODY_AT] if len(args) > BODY_AT else kwargs.get("body")
    scheme, host, port = pool.scheme or "", pool.host, pool.port
    if url.startswith("/"):
        shown = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else f":{port}"
        url = f"{scheme}://{host}{shown}{url}"
    sent = len(body) if isinstance(body, bytes | bytearray | str) else 0
    return calls.begin(method.upper(), url, host, port, sent)


def _with_headers(
    pool: "HTTPConnectionPool", args: Args, kwargs: Kwargs, call: Call
) -> tuple[Args, Kwargs]:
    """The arguments with our headers in the place of what may have been copied from elsewhere."""
    if not call.headers:
        return args, kwargs
    try:
        by_position = len(args) > HEADERS_AT
        given = args[HEADERS_AT] if by_position else kwargs.get("headers")
        own = cast("_Headers", pool.headers if given is None else given)
        headers = own.copy() if hasattr(own, "copy") else dict(own)
        for name in [name for name in headers if name.lower() in call.headers]:
            del headers[name]
        headers.update(call.headers)
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return args, kwargs
    if by_position:
        return (*args[:HEADERS_AT], headers, *args[HEADERS_AT + 1 :]), kwargs
    return args, {**kwargs, "headers": headers}


@fail_open(NAME, None)
def _count_tries(call: Call, response: Response) -> None:
    tries = len(getattr(getattr(response, "retries", None), "history", ()))
    if tries:
        call.span.set_attribute("http.request.resend_count", tries)


@fail_open(NAME, False)
def _is_over(response: Response) -> bool:
    return bool(response.isclosed())


def _received(response: Response) -> int:
    return int(max(response.tell(), response.__dict__.pop(_CHUNKED, 0)))


def _counting(original: Original) -> Original:
    """Count what is read by chunks, which is not in urllib3's own count."""

    @wraps(original)
    def read_chunked(response: object, *args: object, **kwargs: object) -> Iterator[bytes]:
        known = response.__dict__
        for chunk in cast("Iterator[bytes]", original(response, *args, **kwargs)):
            known[_CHUNKED] = known.get(_CHUNKED, 0) + len(chunk)
            yield chunk

    return read_chunked


def _trying(original: Original) -> Original:
    @wraps(original)
    def make_request(*args: object, **kwargs: object) -> object:
        response = original(*args, **kwargs)
        _REJECTED.set(_is_rejection(cast("Response", response)))
        return response

    return make_request


@fail_open(NAME, False)
def _is_rejection(response: Response) -> bool:
    return response.status == UNAVAILABLE and bool(response.headers.get(BREAKER_HEADER))


def _retrying(original: Original) -> Original:
    @wraps(original)
    def is_retry(*args: object, **kwargs: object) -> object:
        if _REJECTED.get():
            _REJECTED.set(False)
            return False
        return original(*args, **kwargs)

    return is_retry
