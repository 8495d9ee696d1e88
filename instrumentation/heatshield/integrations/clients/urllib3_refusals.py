"""Answers here what the service behind a pool of urllib3 is known to refuse.

requests goes through these pools, too, and makes its own response of what they answer.
"""

from functools import partial, wraps
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from heatshield.breakers.caller_gate import CALLER_GATE, Place
from heatshield.counters import fail_open
from heatshield.integrations.clients.refused_here import (
    REASON,
    LocalAnswer,
    answer_here,
    learn,
    place_of,
)
from heatshield.integrations.clients.urllib3_headers import given_headers
from heatshield.integrations.patches import Args, Kwargs, Original
from heatshield.rejection import UNAVAILABLE

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.response import HTTPResponse

__all__ = ["refusing"]

HTTP_1_1 = 11
"""As urllib3's responses write the version."""


def refusing(original: Original) -> Original:
    """A patch of a pool's ``urlopen``, within the one that makes the span."""

    @wraps(original)
    def urlopen(pool: "HTTPConnectionPool", *args: object, **kwargs: object) -> object:
        if CALLER_GATE.idle:
            return original(pool, *args, **kwargs)
        place = _place(pool, args, kwargs)

        local = answer_here(place, partial(_response, args, kwargs))
        if local is not None:
            return local
        response = cast("HTTPResponse", original(pool, *args, **kwargs))
        _look_at(place, response)
        return response

    return urlopen


@fail_open("urllib3", None)
def _look_at(place: Place | None, response: "HTTPResponse") -> None:
    if hasattr(response, "status"):  # urllib3-future's promise of a response has none
        learn(place, response.status, response.headers)


@fail_open("urllib3", None)
def _place(pool: "HTTPConnectionPool", args: Args, kwargs: Kwargs) -> Place:
    method, url = _method_and_url(args, kwargs)
    address = (pool.scheme or "", pool.host, pool.port)
    if not url.startswith("/"):  # to a proxy, which is told the whole address
        parts = urlsplit(url)
        address, url = (parts.scheme, parts.hostname or "", parts.port), parts.path
    headers: Any = given_headers(args, kwargs)
    own = pool.headers if headers is None else headers
    named = next((str(own[name]) for name in own if name.lower() == "host"), None)
    # Pools over socket files are classes of other libraries.
    over = None if type(pool).__module__.startswith("urllib3") else type(pool).__qualname__
    return place_of(method, address, url, named, over)


def _response(args: Args, kwargs: Kwargs, answer: LocalAnswer) -> "HTTPResponse":
    from urllib3.response import HTTPResponse

    method, url = _method_and_url(args, kwargs)
    body = _Body(answer.body)
    response = HTTPResponse(
        body=body,
        headers=answer.headers,
        status=UNAVAILABLE,
        version=HTTP_1_1,
        reason=REASON,
        preload_content=bool(kwargs.get("preload_content", True)),
        decode_content=bool(kwargs.get("decode_content", True)),
        request_method=method,
        request_url=url,
    )
    body.response = response
    return response


class _Body(BytesIO):
    """Says to its response when it was read, as the body of a connection does."""

    response: "HTTPResponse | None" = None

    def read(self, size: int | None = -1, /) -> bytes:
        """All, and that was it, or at most so many bytes."""
        data = super().read(size)
        if size is None or size < 0:
            self.close()
        return data

    def close(self) -> None:
        """The response lets its connection go, which it does not have."""
        super().close()
        response, self.response = self.response, None
        if response is not None:
            response.release_conn()


def _method_and_url(args: Args, kwargs: Kwargs) -> tuple[str, str]:
    method = args[0] if args else kwargs["method"]
    return str(method), str(args[1] if len(args) > 1 else kwargs["url"])
