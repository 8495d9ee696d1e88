"""requests: one span an exchange of an adapter, so each redirect is one; the tries that urllib3
makes of it (``max_retries``) are within.

urllib3, through which it goes, makes none of its own inside.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final
from urllib.parse import urlsplit

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.http_call import Call, Calls
from heatshield.integrations.clients.urllib3 import answered, follow_responses, leave_responses
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

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
    _PATCHES.wrap(HTTPAdapter, "send", _sending(calls))
    follow_responses(NAME)


def remove() -> None:
    """Take the patches out again."""
    leave_responses(NAME)
    _PATCHES.undo()
    Calls.retire(NAME)


def _sending(calls: Calls) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def send(adapter: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            call = _begin(calls, request)
            if call is None:
                return original(adapter, request, *args, **kwargs)
            own = request.headers
            request.headers = _with_headers(own, call)
            try:
                response = original(adapter, request, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            finally:
                request.headers = own  # it may be sent again, for somebody else
            answered(call, response.raw)
            return response

        return send

    return wrap


@fail_open(NAME, None)
def _begin(calls: Calls, request: Any) -> Call | None:
    length = str(request.headers.get("Content-Length", ""))
    sent = int(length) if length.isdigit() else 0
    parts = urlsplit(request.url)
    return calls.begin(request.method, request.url, parts.hostname or "", parts.port, sent)


def _with_headers(own: Any, call: Call) -> Any:
    if not call.headers:
        return own
    try:
        headers = own.copy()
        headers.update(call.headers)
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return own
    return headers
