"""requests: one span an exchange of an adapter, so each redirect is one; the tries that urllib3
makes of it (``max_retries``) are within.

urllib3, through which it goes, makes no span of its own inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from heatshield.integrations.clients.http_call import Call, Calls
from heatshield.integrations.clients.urllib3 import answered, patch_for, unpatch_for
from heatshield.integrations.clients.urllib3_headers import Carrying, carry, let_go
from heatshield.integrations.content_length import content_length
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches, around
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

__all__ = ["NAME", "install", "remove"]

NAME: Final = "requests"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch every adapter; replaces an earlier patch.

    Adapters are inside of what OpenTelemetry patches, so where the service has activated that, its
    span is joined.

    Raises:
        ImportError: if requests is not installed.
    """
    from requests.adapters import HTTPAdapter

    _PATCHES.undo()
    calls = Calls(NAME, services, OtelContrib("requests", "RequestsInstrumentor"))

    def begin(
        _adapter: object, args: tuple[PreparedRequest, ...], kwargs: dict[str, PreparedRequest]
    ) -> _Exchange | None:
        return _begin(calls, args[0] if args else kwargs["request"])

    _PATCHES.wrap(HTTPAdapter, "send", around(begin, _end, _fail, name=NAME))
    patch_for(NAME)


def remove() -> None:
    """Take the patches out again."""
    unpatch_for(NAME)
    _PATCHES.undo()
    Calls.retire(NAME)


class _Exchange(NamedTuple):
    """A request that is being sent. It is not changed: our headers are put on in urllib3."""

    call: Call
    carrying: Carrying | None


def _begin(calls: Calls, request: PreparedRequest) -> _Exchange | None:
    url = request.url or ""
    sent = content_length(request.headers.get("Content-Length"))
    parts = urlsplit(url)
    call = calls.begin(request.method or "", url, parts.hostname or "", parts.port, sent)
    if call is None:
        return None
    if call.headers is None:
        return _Exchange(call, None)
    return _Exchange(call, carry(request, call.headers, propagates=True))


def _end(exchange: _Exchange, response: Response) -> None:
    call, carrying = exchange
    let_go(carrying)
    answered(call, response.raw)


def _fail(exchange: _Exchange, error: BaseException) -> None:
    call, carrying = exchange
    let_go(carrying)
    call.failed(error)
