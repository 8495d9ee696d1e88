"""Refusals of outgoing HTTP calls at their caller: where a call goes, and the answer it gets here.

Code that is written for a refusal by the other service works unchanged: the answer is the same 503
with the same headers and body, of the library's own class. The same span is around it, and nothing
of heatshield or of the library retries it. What decides stands in
:mod:`heatshield.breakers.caller_gate`.
"""

import json
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from heatshield.breakers.caller_gate import CALLER_GATE, Place
from heatshield.counters import COUNTERS
from heatshield.rejection import UNAVAILABLE, BreakerOpen, Headers

__all__ = ["REASON", "LocalAnswer", "answer_here", "learn", "place_of"]

REASON: Final = "Service Unavailable"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

T = TypeVar("T")


class LocalAnswer(NamedTuple):
    """What a request gets that does not travel; its status is 503."""

    headers: dict[str, str]
    body: bytes


def place_of(
    method: str,
    address: tuple[str, str, int | None],
    path: str,
    named: str | None = None,
    over: object = None,
) -> Place:
    """Where a request goes.

    Args:
        method: of HTTP.
        address: scheme, host, and port if the URL has one.
        path: as it is sent; a query is left out.
        named: the ``Host`` header, if the service has set one.
        over: a socket file instead of the address, if the request goes there.
    """
    scheme, host, port = address
    text = f"{host.lower()}:{port or _DEFAULT_PORTS.get(scheme, 0)}"
    if named is not None and named.lower() not in {host.lower(), text, f"{host.lower()}:{port}"}:
        text = f"{text} as {named.lower()}"
    if over is not None:
        text = f"{text} over {over}"
    return Place(text, method, path.partition("?")[0].partition("#")[0] or "/")


def answer_here(place: Place | None, build: Callable[[LocalAnswer], T]) -> T | None:
    """The answer to a request that is refused here; ``None`` lets it travel.

    Args:
        place: where it is about to go.
        build: makes a response of the library's; if it can't, the request travels.
    """
    refusal = CALLER_GATE.refusal(place)
    if refusal is None:
        return None
    try:
        return build(_answer(refusal))
    except Exception:  # noqa: BLE001  # the other service still refuses it
        COUNTERS.error("caller gate")
        return None


def learn(place: Place | None, status: int, headers: Headers) -> None:
    """Look at an answer that has come from a place."""
    if status == UNAVAILABLE:
        CALLER_GATE.learn(place, headers)


def _answer(refusal: BreakerOpen) -> LocalAnswer:
    body = json.dumps({"detail": str(refusal)}).encode()
    more = {"content-type": "application/json", "content-length": str(len(body))}
    return LocalAnswer({**refusal.headers, **more}, body)
