"""urllib3: one span a call of a pool, with the tries that it makes; a redirect is another call.

urllib3 retries a 503 that says ``Retry-After`` by default, after waiting as long as it says. A
rejection says both and is not to be retried, so the service gets it at once.
"""

from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Final, Protocol, cast

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.http_call import Call, Calls, abandoning, letting_go, reading
from heatshield.integrations.clients.urllib3_headers import carried_to, with_headers
from heatshield.integrations.clients.urllib3_refusals import refusing
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Args, Kwargs, Original, Patches
from heatshield.integrations.services import Services
from heatshield.names import BREAKER_HEADER
from heatshield.rejection import REFUSAL_STATUSES

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["NAME", "answered", "install", "patch_for", "remove", "unpatch_for"]

NAME: Final = "urllib3"

BODY_AT: Final = 2
"""Where it stands among the arguments of ``urlopen``: after method and URL."""

_CHUNKED: Final = "_heatshield_chunked"
"""Attribute of a response: bytes that were read by chunks."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REJECTED: Final[ContextVar[bool]] = ContextVar("heatshield-rejected", default=False)
"""Whether the last answer in this context was a rejection."""

_PATCHES: Final = Patches()
_SHARED: Final = Patches()
_SHARING: Final[set[str]] = set()
"""Integrations that pools and responses are patched for: this one, and those of requests."""

_CALLS: Final[list[Calls]] = []
"""Those of this integration, while it is installed."""


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
    _CALLS[:] = [Calls(NAME, services, OtelContrib("urllib3", "URLLib3Instrumentor"))]
    patch_for(NAME)


def remove() -> None:
    """Take the patches out again."""
    _CALLS.clear()
    unpatch_for(NAME)
    _PATCHES.undo()
    Calls.retire(NAME)


def patch_for(user: str) -> None:
    """Send what is carried for requests of requests; end calls when their responses are let go.

    These patches are one set, whoever asks for them first or last: of two on the same method, the
    earlier could not be taken out before the later.

    Args:
        user: the integration that asks for it, until :func:`unpatch_for`.
    """
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.response import HTTPResponse

    if not _SHARING:
        _SHARED.wrap(HTTPConnectionPool, "urlopen", refusing)
        _SHARED.wrap(HTTPConnectionPool, "urlopen", _sending)
        for method in ("release_conn", "close"):
            _SHARED.wrap(HTTPResponse, method, letting_go(_received))
        for method in ("read", "drain_conn"):
            _SHARED.wrap(HTTPResponse, method, reading(_received))
        _SHARED.wrap(HTTPResponse, "read_chunked", _counting)
        _SHARED.wrap(HTTPResponse, "__del__", abandoning)  # urllib3-future's
    _SHARING.add(user)


def unpatch_for(user: str) -> None:
    """This integration needs the patches no more."""
    _SHARING.discard(user)
    if not _SHARING:
        _SHARED.undo()


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


def _sending(original: Original) -> Original:
    @wraps(original)
    def urlopen(pool: "HTTPConnectionPool", *args: object, **kwargs: object) -> object:
        carried = carried_to(args, kwargs)
        if carried is not None:
            _, headers, propagates = carried
            args, kwargs = with_headers(pool, args, kwargs, headers, propagates=propagates)
        call, is_odd = None, False
        try:
            call = _begin(pool, args, kwargs)
        except Exception:  # noqa: BLE001  # if urllib3 takes these arguments, the mistake is ours
            is_odd = True
        if call is None:
            response = original(pool, *args, **kwargs)
            if is_odd:
                COUNTERS.error(NAME)
            return response
        if call.headers is not None:
            args, kwargs = with_headers(pool, args, kwargs, call.headers, propagates=True)
        try:
            response = original(pool, *args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        answered(call, cast("Response", response))
        return response

    return urlopen


def _begin(pool: "HTTPConnectionPool", args: Args, kwargs: Kwargs) -> Call | None:
    if not _CALLS:
        return None
    method = str(args[0] if args else kwargs["method"])
    url = str(args[1] if len(args) > 1 else kwargs["url"])
    body = args[BODY_AT] if len(args) > BODY_AT else kwargs.get("body")
    scheme, host, port = pool.scheme or "", pool.host, pool.port
    if url.startswith("/"):
        shown = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else f":{port}"
        url = f"{scheme}://{host}{shown}{url}"
    sent = len(body) if isinstance(body, bytes | bytearray | str) else 0
    return _CALLS[0].begin(method.upper(), url, host, port, sent)


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
    return response.status in REFUSAL_STATUSES and bool(response.headers.get(BREAKER_HEADER))


def _retrying(original: Original) -> Original:
    @wraps(original)
    def is_retry(*args: object, **kwargs: object) -> object:
        if _REJECTED.get():
            _REJECTED.set(False)
            return False
        return original(*args, **kwargs)

    return is_retry
