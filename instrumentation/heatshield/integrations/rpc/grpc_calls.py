"""What both ends of gRPC have in common: names, statuses, and how a rejection looks there.

A rejection is UNAVAILABLE, or RESOURCE_EXHAUSTED, with the trailing metadata that HTTP has as
headers, and says in gRPC's own words (``grpc-retry-pushback-ms``) that it is not to be retried: a
client whose service config retries UNAVAILABLE would do so by itself.
"""

import re
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple

import grpc
from opentelemetry.trace import Span, SpanKind

from heatshield.breakers.deadline_exceeded import expiry_in
from heatshield.context.span_like import attributes_of
from heatshield.rejection import TOO_MANY_REQUESTS, BreakerOpen, refusal_in

__all__ = [
    "CANCELLED",
    "REFUSALS",
    "SERVER_FAILURES",
    "UNAVAILABLE",
    "UNKNOWN",
    "Answer",
    "answer_to",
    "at_once",
    "attributes_for",
    "is_abort",
    "is_theirs",
    "metadata_of",
    "name_of",
    "number_of",
    "server_of",
    "target_of",
]

CANCELLED: Final = 1
UNKNOWN: Final = 2
RESOURCE_EXHAUSTED: Final = 8
UNAVAILABLE: Final = 14
REFUSALS: Final = frozenset({UNAVAILABLE, RESOURCE_EXHAUSTED})
"""Statuses that a rejection has."""

SERVER_FAILURES: Final = frozenset({2, 4, 12, 13, 14, 15})
"""Statuses that say that a server failed, by OpenTelemetry's conventions: UNKNOWN,
DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS. For a client all but OK are."""

NO_RETRY: Final = ("grpc-retry-pushback-ms", "-1")
"""A server's wish, by gRFC A6, that the call is not tried again."""


class Answer(NamedTuple):
    """A status that a call is answered with."""

    code: Any
    details: str
    trailing_metadata: tuple[tuple[str, str], ...]


def answer_to(error: BaseException) -> Answer | None:
    """The status that an error stands for which is a decision and no failure."""
    refusal = refusal_in(error)
    if refusal is not None:
        paced = refusal.status == TOO_MANY_REQUESTS
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if paced else grpc.StatusCode.UNAVAILABLE
        return Answer(code, str(refusal), metadata_of(refusal))
    expiry = expiry_in(error)
    if expiry is not None:
        return Answer(grpc.StatusCode.DEADLINE_EXCEEDED, str(expiry), _metadata(expiry.headers))
    return None


def metadata_of(refusal: BreakerOpen) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that mark a refusal."""
    return _metadata(refusal.headers)


def _metadata(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    ascii_only = {name: value.encode("ascii", "replace") for name, value in headers.items()}
    return (*((name, value.decode()) for name, value in ascii_only.items()), NO_RETRY)


def name_of(method: str | bytes) -> str:
    """``package.Service/Method``: how OpenTelemetry names a call."""
    text = method.decode("latin-1") if isinstance(method, bytes) else method
    return text.removeprefix("/")


def attributes_for(call: str) -> dict[str, Any]:
    """The first attributes of a span, by its name."""
    service, _, method = call.rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def target_of(stub: Any) -> str:
    """Whom a channel's method calls, as the channel was told."""
    target = getattr(stub, "_target", None) or stub._channel.target  # noqa: SLF001  # no public name
    if callable(target):  # before grpcio 1.7x
        target = target()
    return target.decode("ascii", "replace") if isinstance(target, bytes) else str(target)


def server_of(stub: Any) -> dict[str, Any]:
    """The attributes that name whom a channel's method calls."""
    text = target_of(stub)
    address = text.rpartition("/")[2] if "//" in text else _SCHEME.sub("", text)
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return {"server.address": address}
    return {"server.address": host.strip("[]"), "server.port": int(port)}


_SCHEME: Final = re.compile(r"^(dns|ipv4|ipv6|unix|unix-abstract|xds|vsock):")
"""Of gRPC's own name syntax, where no authority follows it."""


def number_of(code: Any) -> int:
    """A status as a number, whether it is gRPC's enumeration, a number, or not set yet."""
    if code is None:
        return 0
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code)


def is_abort(error: Exception) -> bool:
    """Whether this is how ``context.abort`` leaves a handler."""
    return isinstance(error, grpc.aio.AbortError) or (type(error) is Exception and not error.args)


def is_theirs(span: Span, kind: SpanKind) -> bool:
    """Whether OpenTelemetry's own interceptor has opened this span."""
    return getattr(span, "kind", None) is kind and attributes_of(span).get("rpc.system") == "grpc"


def at_once(result: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for; ``None`` if it has."""
    try:
        result.send(None)
    except StopIteration as done:
        return done.value
    result.close()
    return None
