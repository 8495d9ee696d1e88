"""How the shop's services call each other over HTTP: one pool, timeouts, retries, and failures.

Retries are for what may go away by itself: a transport error or a 5xx. A breaker's rejection is
neither; it goes back to whoever asked, unretried and still marked as a rejection.
"""

from typing import Any, Final

import httpx
import stamina
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import heatshield

__all__ = ["answer_failures", "connect", "send"]

TIMEOUT: Final = httpx.Timeout(3.0, connect=0.5)
"""Seconds. A message or a purchase that takes longer has lost its user already."""

LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)
"""httpx' own defaults, said aloud: a pool is one more thing that slow calls can use up."""

ATTEMPTS: Final = 3
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 0.5


def connect(base_url: str) -> httpx.AsyncClient:
    """A client of one peer; open and close it with the service."""
    return httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, limits=LIMITS)


def _may_go_away(error: Exception) -> bool:
    return isinstance(error, httpx.TransportError | httpx.HTTPStatusError)


@stamina.retry(
    on=_may_go_away, attempts=ATTEMPTS, wait_initial=FIRST_WAIT_S, wait_max=LONGEST_WAIT_S
)
async def send(
    client: httpx.AsyncClient, method: str, path: str, json: dict[str, Any] | None = None
) -> httpx.Response:
    """Call a peer; whatever is sent must be safe to repeat.

    Returns:
        Its answer, below 500.

    Raises:
        heatshield.BreakerOpen: a breaker refused the call.
        httpx.HTTPError: the peer failed or couldn't be reached, after all attempts.
    """
    response = await client.request(method, path, json=json)
    heatshield.raise_for_rejection(response)
    if response.is_server_error:
        response.raise_for_status()
    return response


def answer_failures(app: FastAPI) -> None:
    """Let a service answer 503 when a breaker refused its peer's call, 502 when the peer failed."""

    @app.exception_handler(heatshield.BreakerOpen)
    async def refused(_request: Request, error: heatshield.BreakerOpen) -> JSONResponse:
        return JSONResponse({"detail": "refused for this user for now"}, 503, error.headers)

    @app.exception_handler(httpx.HTTPError)
    async def failed(_request: Request, error: httpx.HTTPError) -> JSONResponse:
        return JSONResponse({"detail": f"a service behind this one failed: {error!r}"}, 502)
