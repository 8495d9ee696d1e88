"""Refuses what another site's page makes a browser on this machine send to a collector here.

A page elsewhere can post to ``http://127.0.0.1:4318``, and by DNS rebinding (a name of its own that
resolves to 127.0.0.1) it can read the answers, too. Browsers give both away: in ``Host``, which is
the name that the page asked for, in ``Origin``, and in ``Sec-Fetch-Site``. All three are looked at
as they came, on every route; what can't be understood is refused.

A collector that requires a token of its callers does without: no other site's page has the token.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from heatshield.process.loopback import is_loopback

__all__ = ["BrowserGuard", "complaint"]

_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")

_OWN: Final = (b"same-origin", b"none")
"""What ``Sec-Fetch-Site`` says of the collector's own pages, and of what a person typed."""

_DECISIVE: Final = frozenset(
    (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")
)


class BrowserGuard:
    """An ASGI application that answers 403 where :func:`complaint` has one.

    Args:
        app: what it guards.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        error = complaint(scope["method"], scope["headers"]) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": error}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),  # what the request's body holds is not read
        ]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def complaint(method: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why a request may come from another site's page; ``None`` where it does not.

    Args:
        method: of the request.
        headers: as they came; names in lower case.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _DECISIVE:
            found.setdefault(name, []).append(value)
    (host, *more) = found.get(b"host", [b""])
    match = _AUTHORITY.fullmatch(host)
    if more or match is None or not is_loopback(match[1].decode()):
        return (
            "this collector answers to this machine's own names alone, such as localhost; to let "
            "others in, set HEATSHIELD_COLLECTOR_TOKEN"
        )
    if len(found) > 1 and _is_foreign(method, found, host):
        return "another site's page asks; the collector answers its own pages alone"
    return None


def _is_foreign(method: str, found: dict[bytes, list[bytes]], host: bytes) -> bool:
    """Whether a browser says that another origin made it send this."""
    origins, sites = found.get(b"origin", []), found.get(b"sec-fetch-site", [])
    if origins and origins != [b"http://" + host]:
        return True
    if not sites or (len(sites) == 1 and sites[0] in _OWN):
        return False
    # A link that a person follows, from a chat for instance: that page can't read the answer.
    follows_link = found.get(b"sec-fetch-mode") == [b"navigate"]
    in_own_tab = found.get(b"sec-fetch-dest") == [b"document"]
    return not (method == "GET" and follows_link and in_own_tab)
