"""Every error of the API is ``{"error": "..."}``, one sentence that says what to do."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from heatshield.contract import ContractError
from heatshield_collector.api.answers import Error
from heatshield_collector.events import HubClosedError
from heatshield_collector.ports import AccessError, TripRefusedError, UnauthenticatedError
from heatshield_collector.store.protocol import StoreError

__all__ = ["Error", "add_error_handlers", "documented"]


HEADERS: Final = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
"""What goes with a status."""


def documented(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Errors of a route for its documentation: ``documented(_404="no such request")``."""
    return {
        int(name.removeprefix("_")): {"model": Error, "description": text}
        for name, text in statuses.items()
    }


def add_error_handlers(app: FastAPI) -> None:
    """Answer each kind of failure with its status."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    for kind, status in (
        (ContractError, 400),
        (UnauthenticatedError, 401),
        (AccessError, 403),
        (TripRefusedError, 409),
        (StoreError, 503),
        (HubClosedError, 503),
        (Exception, 500),
    ):
        app.add_exception_handler(kind, _answer_with(status))


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for nothing else
    path, text = request.url.path, error.detail
    if error.status_code == 404 and text == "Not Found":  # noqa: PLR2004  the router's own words
        text = f"there is no {path}; /docs lists what there is"
    elif error.status_code == 405:  # noqa: PLR2004  method not allowed
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{request.method} is not for {path}" + (f"; it takes {allowed}" if allowed else "")
    return _error(error.status_code, text, error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for nothing else
    return _error(422, "; ".join(_complaint(problem) for problem in error.errors()))


def _complaint(problem: dict[str, Any]) -> str:
    """Such as ``parameter limit: Input should be less than or equal to 1000, not '5000'``."""
    where, *path = problem["loc"]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem.get('ctx', {}).get('error', problem['msg'])}"
    kind = {"query": "parameter", "path": "path parameter", "body": "field"}.get(where, where)
    name = ".".join(str(part) for part in path)
    given = problem.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float) else ""
    return f"{kind} {name}: {problem['msg']}{shown}" if name else f"body: {problem['msg']}{shown}"


def _answer_with(status: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def handle(_request: Request, error: Exception) -> JSONResponse:
        # A defect goes to the log with its traceback, not to the client.
        text = "internal error; the collector's log has it" if status == 500 else str(error)  # noqa: PLR2004
        return _error(status, text, HEADERS.get(status))

    return handle
