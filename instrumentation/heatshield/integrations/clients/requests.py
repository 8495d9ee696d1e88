"""requests: one span an exchange of an adapter, so each redirect is one; the tries that urllib3
makes of it (``max_retries``) are within.

urllib3, through which it goes, makes no span of its own inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.http_call import Call, Calls
from heatshield.integrations.clients.urllib3 import answered, follow_responses, leave_responses
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches, around
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests.structures import CaseInsensitiveDict

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

    @fail_open(NAME, None)
    def begin(
        _adapter: object, args: tuple[PreparedRequest, ...], kwargs: dict[str, PreparedRequest]
    ) -> _Exchange | None:
        return _begin(calls, args[0] if args else kwargs["request"])

    _PATCHES.wrap(HTTPAdapter, "send", around(begin, _end, _fail))
    follow_responses(NAME)


def remove() -> None:
    """Take the patches out again."""
    leave_responses(NAME)
    _PATCHES.undo()
    Calls.retire(NAME)


class _Exchange(NamedTuple):
    """A request that is being sent, with our headers in the place of its own."""

    call: Call
    request: PreparedRequest
    own: CaseInsensitiveDict[str | bytes]


def _begin(calls: Calls, request: PreparedRequest) -> _Exchange | None:
    url, own = request.url or "", request.headers
    length = str(own.get("Content-Length", ""))
    sent = int(length) if length.isdigit() else 0
    parts = urlsplit(url)
    call = calls.begin(request.method or "", url, parts.hostname or "", parts.port, sent)
    if call is None:
        return None
    request.headers = _with_headers(own, call)
    return _Exchange(call, request, own)


def _end(exchange: _Exchange, response: Response) -> None:
    call, request, own = exchange
    request.headers = own  # the service may send it again, for another user
    answered(call, response.raw)


def _fail(exchange: _Exchange, error: BaseException) -> None:
    call, request, own = exchange
    request.headers = own  # as above
    call.failed(error)


def _with_headers(
    own: CaseInsensitiveDict[str | bytes], call: Call
) -> CaseInsensitiveDict[str | bytes]:
    if not call.headers:
        return own
    try:
        headers = own.copy()
        headers.update(call.headers)
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return own
    return headers
