"""Calls between the shop's services over HTTP: one pool, timeouts, retries, and failures.

A call retries failures that may pass: a transport error or a 5xx. A breaker's rejection is neither;
it goes back to the caller without a retry, still marked as a rejection.
"""

from typing import Any, Final

import httpx
import stamina
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

import heatshield

__all__ = ["answer_failures", "connect", "send"]

TIMEOUT: Final = httpx.Timeout(3.0, connect=0.5)
"""Seconds. The user has given up on a message or a purchase that takes longer."""

LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)
"""The defaults of httpx, written out because slow calls can exhaust a pool, too."""

ATTEMPTS: Final = 3
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 0.5


def connect(base_url: str) -> httpx.AsyncClient:
    """Return a client of one peer; the service opens and closes it."""
    return httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT, limits=LIMITS)


def _is_transient(error: Exception) -> bool:
    return isinstance(error, httpx.TransportError | httpx.HTTPStatusError)


@stamina.retry(
    on=_is_transient, attempts=ATTEMPTS, wait_initial=FIRST_WAIT_S, wait_max=LONGEST_WAIT_S
)
async def send(
    client: httpx.AsyncClient, method: str, path: str, json: dict[str, Any] | None = None
) -> httpx.Response:
    """Call a peer; the request must be safe to repeat.

    Returns:
        The peer's answer, with a status below 500.

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
    """Make a service hand on the status and marks of a breaker that refused its call to a peer, and
    answer 502 if the peer failed.
    """

    @app.exception_handler(heatshield.BreakerOpen)
    async def refused(_request: Request, error: heatshield.BreakerOpen) -> JSONResponse:
        detail = {"detail": "refused for this user for now"}
        return JSONResponse(detail, error.status, error.headers)

    @app.exception_handler(httpx.HTTPError)
    async def failed(_request: Request, error: httpx.HTTPError) -> JSONResponse:
        return JSONResponse({"detail": f"a service behind this one failed: {error!r}"}, 502)
