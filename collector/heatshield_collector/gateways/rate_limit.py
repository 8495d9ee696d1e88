"""Envoy's rate limit service over gRPC: ``ShouldRateLimit`` on the listener of OTLP/gRPC.

A request has descriptors, each a list of (key, value). Of each we read

- ``user``: the acting user,
- ``service``: or ``destination_cluster``, or else the request's ``domain``,
- ``call``: or ``generic_key``; without them the call is told by ``method`` and ``path``.

One descriptor that is refused makes the whole request ``OVER_LIMIT``; Envoy answers 429, with the
headers that it is given here.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from heatshield.identity.identify import Identity
from heatshield.rejection import BreakerOpen
from heatshield_collector.gateways.checks import Checks, Question
from heatshield_collector.gateways.rate_limit_messages import (
    OK,
    OVER_LIMIT,
    RATE_LIMIT_SERVICE,
    RateLimitRequest,
    RateLimitResponse,
)
from heatshield_collector.ports import (
    AccessError,
    Authenticator,
    Caller,
    Scope,
    UnauthenticatedError,
)

__all__ = ["RATE_LIMIT_SERVICE", "rate_limit_handler"]

MAX_DESCRIPTORS: Final = 32
"""Of one request; those beyond are let through. Envoy sends a handful."""


class _Call(Protocol):
    """What is used of gRPC's ``ServicerContext``, which has no types."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...
    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...


def rate_limit_handler(
    checks: Checks,
    identity: Identity,
    authenticator: Authenticator,
    caller_of: Callable[[Any], Caller],
) -> grpc.GenericRpcHandler:
    """The service, for a server of ``grpc.aio``.

    Args:
        checks: decides.
        identity: names the user as services do.
        authenticator: asked first.
        caller_of: what a call says of its caller.
    """

    async def should_rate_limit(body: bytes, context: _Call) -> bytes:
        try:
            authenticator.authenticate(caller_of(context), Scope.ENFORCE)
            request = RateLimitRequest.FromString(body)
        except AccessError as error:
            return await _abort(context, _code_of(error), str(error))
        except DecodeError:
            text = "not a RateLimitRequest"
            return await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, text)
        questions = [
            _question(request.domain, one, identity)
            for one in request.descriptors[:MAX_DESCRIPTORS]
        ]
        refusals = [checks.refusal(one) for one in questions]
        refusals += [None] * (len(request.descriptors) - len(refusals))
        answer: bytes = _response(refusals).SerializeToString()
        return answer

    handler: Callable[[bytes, _Call], Awaitable[bytes]] = should_rate_limit
    return grpc.method_handlers_generic_handler(
        RATE_LIMIT_SERVICE, {"ShouldRateLimit": grpc.unary_unary_rpc_method_handler(handler)}
    )


def _question(domain: str, descriptor: Any, identity: Identity) -> Question:
    said = {entry.key: entry.value for entry in descriptor.entries}
    return Question(
        service=said.get("service") or said.get("destination_cluster") or domain,
        user=identity.from_baggage(said.get("user")),
        call=said.get("call") or said.get("generic_key") or "",
        method=said.get("method", ""),
        path=said.get("path", ""),
    )


def _response(refusals: Iterable[BreakerOpen | None]) -> Any:
    response = RateLimitResponse(overall_code=OK)
    for refusal in refusals:
        status = response.statuses.add(code=OK if refusal is None else OVER_LIMIT)
        if refusal is None:
            continue
        status.duration_until_reset.seconds = math.ceil(refusal.retry_after_s)
        if response.overall_code == OK:
            response.overall_code = OVER_LIMIT
            response.raw_body = str(refusal).encode()
            for name, value in refusal.headers.items():
                response.response_headers_to_add.add(key=name, value=value)
    return response


def _code_of(error: AccessError) -> grpc.StatusCode:
    if isinstance(error, UnauthenticatedError):
        return grpc.StatusCode.UNAUTHENTICATED
    return grpc.StatusCode.PERMISSION_DENIED


async def _abort(context: _Call, code: grpc.StatusCode, text: str) -> bytes:
    """End the call; it does not return."""
    await context.abort(code, text)
    raise AssertionError("abort returned")
