"""Answers here what the service that aiohttp's client is about to call is known to refuse."""

from __future__ import annotations

import inspect
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final

from heatshield.breakers.caller_gate import CALLER_GATE, Place
from heatshield.counters import fail_open
from heatshield.integrations.clients.refused_here import (
    REASON,
    LocalAnswer,
    answer_here,
    learn,
    place_of,
)
from heatshield.rejection import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

    from heatshield.integrations.patches import AsyncOriginal

__all__ = ["refusing", "whole_url"]

BUFFER_BYTES: Final = 65_536
"""Of the stream that the body is read from, as aiohttp's own."""

_NOT_FROM_HERE: Final = "upload_tracker"
"""An argument of requests that aiohttp alone can serve: they travel."""


def refusing(original: AsyncOriginal) -> AsyncOriginal:
    """A patch of a session's ``_request``, within the one that makes the span."""

    @wraps(original)
    def request(
        session: ClientSession, method: str, str_or_url: str | URL, **more: object
    ) -> Awaitable[object]:
        if CALLER_GATE.idle or session.closed or more.get(_NOT_FROM_HERE) is not None:
            return original(session, method, str_or_url, **more)
        return asked(session, method, str_or_url, **more)

    async def asked(
        session: ClientSession, method: str, str_or_url: str | URL, **more: Any
    ) -> object:
        place = _place(session, method, str_or_url, more.get("headers"))
        url = partial(whole_url, session, str_or_url)
        refused = answer_here(place, lambda answer: _response(session, method, url(), answer))
        if refused is not None:
            return await _checked(session, refused, more.get("raise_for_status"))
        try:
            response = await original(session, method, str_or_url, **more)
        except Exception as error:
            _look_at(error, place)  # an answer's, where the session raises for its status
            raise
        _look_at(response, place)
        return response

    return request


def whole_url(session: ClientSession, str_or_url: str | URL) -> URL:
    """The address of a request, with the session's base if it has one.

    Raises:
        ValueError: if it is none.
    """
    from yarl import URL

    url = str_or_url if isinstance(str_or_url, URL) else URL(str_or_url)
    base: URL | None = getattr(session, "_base_url", None)
    return url if base is None or url.absolute else base.join(url)


@fail_open("aiohttp_client", None)
def _look_at(answer: Any, place: Place | None) -> None:
    """Look at a response, or at an error; none after a redirect, which has led elsewhere."""
    if getattr(answer, "headers", None) is not None and not getattr(answer, "history", ()):
        learn(place, getattr(answer, "status", 0), answer.headers)


def _place(
    session: ClientSession, method: str, str_or_url: str | URL, headers: Any
) -> Place | None:
    try:
        url = whole_url(session, str_or_url)
        named = _named_host(headers) or _named_host(session.headers)
        over = getattr(session.connector, "path", None)  # a connector to a socket file
        address = (url.scheme, url.host or "", url.port)
        return place_of(method.upper(), address, url.raw_path, named, over)
    except Exception:  # noqa: BLE001  # what aiohttp does not take is the service's own mistake
        return None


def _named_host(headers: Any) -> str | None:
    pairs = headers.items() if hasattr(headers, "items") else headers or ()
    return next((str(value) for name, value in pairs if str(name).lower() == "host"), None)


def _response(session: ClientSession, method: str, url: URL, answer: LocalAnswer) -> ClientResponse:
    from aiohttp import ClientResponse, HttpVersion11, RequestInfo, StreamReader
    from aiohttp.base_protocol import BaseProtocol
    from multidict import CIMultiDict, CIMultiDictProxy

    loop = session._loop  # noqa: SLF001  # no public name leads to it
    info = RequestInfo(url, method.upper(), CIMultiDictProxy(CIMultiDict()), url)
    given: dict[str, Any] = {
        "writer": None, "continue100": None, "timer": None, "request_info": info, "traces": [],
        "loop": loop, "session": session, "stream_writer": _NothingSent(),
    }  # fmt: skip
    kind = session._response_class  # noqa: SLF001  # likewise
    known = inspect.signature(ClientResponse.__init__).parameters  # they differ by version
    made = kind(method.upper(), url, **{name: one for name, one in given.items() if name in known})
    made.version, made.status, made.reason = HttpVersion11, UNAVAILABLE, REASON
    made._headers = CIMultiDictProxy(CIMultiDict(answer.headers))  # noqa: SLF001  # as in its start()
    made._raw_headers = tuple(  # noqa: SLF001  # likewise
        (name.encode(), value.encode()) for name, value in answer.headers.items()
    )
    made.content = StreamReader(BaseProtocol(loop), BUFFER_BYTES, loop=loop)
    made.content.feed_data(answer.body)
    made.content.feed_eof()
    return made


class _NothingSent:
    """In the place of what has written the request."""

    output_size = 0


async def _checked(session: ClientSession, response: ClientResponse, check: Any) -> ClientResponse:
    """As a session treats each answer: the request's ``raise_for_status``, or the session's."""
    wanted = session.raise_for_status if check is None else check
    if callable(wanted):
        await wanted(response)
    elif wanted:
        response.raise_for_status()
    return response
