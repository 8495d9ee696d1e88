"""aiohttp's client: one span a call of a session, with the redirects that it follows.

Our own patch and not OpenTelemetry's, which sees only sessions that are made after it and ends a
span before the answer's body is read.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Final, cast

from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.aiohttp_refusals import refusing, whole_url
from heatshield.integrations.clients.http_call import Call, Calls, letting_go
from heatshield.integrations.content_length import content_length
from heatshield.integrations.patches import AsyncOriginal, AsyncWrapper, Patches
from heatshield.integrations.services import Services

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientResponse, ClientSession
    from yarl import URL

__all__ = ["NAME", "install", "remove"]

NAME: Final = "aiohttp_client"

SWITCHING_PROTOCOLS: Final = 101
"""Of a WebSocket: the call ends with this answer; what follows is no HTTP."""

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch every session; replaces an earlier patch.

    Raises:
        ImportError: if aiohttp is not installed.
    """
    from aiohttp.client import ClientSession
    from aiohttp.client_reqrep import ClientRequest, ClientResponse

    _PATCHES.undo()
    calls = Calls(NAME, services)
    _PATCHES.wrap(ClientSession, "_request", refusing)
    _PATCHES.wrap(ClientSession, "_request", _requesting(calls))
    _PATCHES.wrap(ClientRequest, "send", _sending(calls))
    for method in ("_response_eof", "release", "close"):
        _PATCHES.wrap(ClientResponse, method, letting_go(_received))


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()
    Calls.retire(NAME)


def _requesting(calls: Calls) -> AsyncWrapper:
    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def request(
            session: ClientSession, method: str, str_or_url: str | URL, **more: object
        ) -> object:
            call, is_odd = None, False
            try:
                call = _begin(calls, session, method, str_or_url)
            except Exception:  # noqa: BLE001  # if aiohttp takes this address, the mistake is ours
                is_odd = True
            if call is None:
                response = await original(session, method, str_or_url, **more)
                if is_odd:
                    COUNTERS.error(NAME)
                return response
            try:
                response = await original(session, method, str_or_url, **more)
            except BaseException as error:
                call.failed(error)
                raise
            _answered(call, cast("ClientResponse", response))
            return response

        return request

    return wrap


def _sending(calls: Calls) -> AsyncWrapper:
    """Fit the headers to each host: to those of a call a session adds its own, and aiohttp sends
    the same ones wherever a redirect leads.
    """

    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def send(request: ClientRequest, *args: object, **kwargs: object) -> object:
            if request.method != "CONNECT":  # that goes in clear text, and to a proxy, not the host
                calls.address(request.headers, request.url.host or "")
            return await original(request, *args, **kwargs)

        return send

    return wrap


def _begin(calls: Calls, session: ClientSession, method: str, url: str | URL) -> Call | None:
    if any(
        hasattr(config, "_is_instrumented_by_opentelemetry") for config in session.trace_configs
    ):
        return None  # OpenTelemetry's span would be inside of ours and can't be joined
    whole = whole_url(session, url)
    return calls.begin(str(method).upper(), str(whole), whole.host or "", whole.port)


@fail_open(NAME, None)
def _answered(call: Call, response: ClientResponse) -> None:
    call.sent = content_length(response.request_info.headers.get("Content-Length"))
    call.answered(response.status, response.headers)
    if redirects := len(response.history):
        call.span.set_attribute("http.request.resend_count", redirects)
    if response.closed or response.status == SWITCHING_PROTOCOLS:
        call.end(_received(response))
    else:
        call.follow(response)


def _received(response: ClientResponse) -> int:
    content = response.content
    return 0 if content is None else int(content.total_bytes)
