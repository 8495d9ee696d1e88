"""OTLP over gRPC: each signal's ``Export``, on raw bytes.

The handlers have no deserializer: the request goes to the pipeline as it came. gRPC undoes the
compression itself and stops at the message limit while it inflates.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

import grpc
import grpc.aio

from heatshield_collector.intake.answers import export_response, fault, retry_info, status_of
from heatshield_collector.intake.payload import (
    Accepted,
    Committer,
    Counters,
    IntakeError,
    OverloadedError,
    Payload,
    Signal,
)
from heatshield_collector.ports import AccessError, Authenticator, Scope

__all__ = ["GRPC_SERVICES", "GrpcCaller", "GrpcListener"]

GRPC_SERVICES: Final[dict[str, Signal]] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_STOP_GRACE_S: Final = 2.0
"""Exports in flight get this long to be committed and answered when the listener stops."""

_HANDSHAKE_MS: Final = 15_000
"""A connection that says nothing is closed after this."""

_IDLE_MS: Final = 10 * 60_000
"""A connection without an export is closed after this; exporters connect again by themselves."""

_MAX_METADATA_BYTES: Final = 64 * 1024
"""Of one call; as HTTP's headers."""

_MOST_EXPORTS: Final = 512
"""Exports in flight at once: far more than a second's batches of any number of instances. Each
holds a message before the bounded queue sees it; without a bound many senders fill the memory."""

_REFUSED_AT_ONCE: Final = 512
"""More than those, that are told when to come again. What is beyond gRPC itself answers with
RESOURCE_EXHAUSTED and no RetryInfo, which is final: by OTLP, exporters drop the batch."""

_BUSY_RETRY_S: Final = 1.0
"""Seconds until one that was too many is to come again."""


class _Call(Protocol):
    """What is used of gRPC's ``ServicerContext``, which has no types."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None: ...
    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Sequence[tuple[str, bytes]]
    ) -> None: ...


_Handler: TypeAlias = Callable[[bytes, _Call], Awaitable[bytes]]

_logger = logging.getLogger(__name__)


class GrpcCaller:
    """Implements :class:`heatshield_collector.ports.Caller`; looks up only what is asked for."""

    def __init__(self, context: _Call) -> None:
        self._context = context

    @property
    def authorization(self) -> str:
        """The metadata of that name; empty without one."""
        metadata = dict(self._context.invocation_metadata() or ())
        return str(metadata.get("authorization", ""))


class GrpcListener:
    """Serves OTLP/gRPC on one address from :meth:`start` to :meth:`stop`.

    Args:
        committer: makes payloads durable.
        limit_bytes: largest message, as sent and once inflated.
        counters: told of every payload that is refused. What is over the limit gRPC refuses by
            itself (RESOURCE_EXHAUSTED), before a handler hears of it.
        authenticator: asked at every export.
        further: services that are served on the same address.
    """

    def __init__(
        self,
        committer: Committer,
        limit_bytes: int,
        counters: Counters,
        authenticator: Authenticator,
        further: Iterable[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._further = tuple(further)
        self._committer = committer
        self._limit_bytes = limit_bytes
        self._counters = counters
        self._authenticator = authenticator
        self._server: grpc.aio.Server | None = None
        self._in_flight = 0

    async def start(self, address: str) -> int:
        """Listen on ``host:port`` (port 0: any free one) and return the port.

        Raises:
            OSError: the address cannot be bound.
        """
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limit_bytes),
                # Without it a second collector would silently share the port of the first.
                ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ],
            maximum_concurrent_rpcs=_MOST_EXPORTS + _REFUSED_AT_ONCE,
        )
        server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service, {"Export": grpc.unary_unary_rpc_method_handler(self._export(signal))}
                )
                for service, signal in GRPC_SERVICES.items()
            )
            + self._further
        )
        try:
            _try_to_bind(address)
            port = int(server.add_insecure_port(address))
        except (OSError, RuntimeError) as error:
            cause = (getattr(error, "strerror", None) or str(error)).lower()
            raise OSError(
                f"can't listen on {address} for OTLP/gRPC: {cause}. Stop the other collector, or "
                "name another address, or none: --grpc HOST:PORT, --grpc off"
            ) from error
        await server.start()
        self._server = server
        return port

    async def stop(self, grace_s: float = _STOP_GRACE_S) -> None:
        """Take no new exports, let those in flight finish within ``grace_s``; safe to repeat."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    def _export(self, signal: Signal) -> _Handler:
        async def export(body: bytes, context: _Call) -> bytes:
            try:
                self._authenticator.authenticate(GrpcCaller(context), Scope.INGEST)
                accepted = await self._submit(Payload(signal, body))
            except (IntakeError, AccessError) as error:
                refusal = error
            except Exception:
                _logger.exception("could not take in a payload of %s", signal)
                refusal = fault()
            else:
                answer: bytes = export_response(signal, accepted).SerializeToString()
                return answer
            self._counters.refused(refusal.cause)
            return await _abort(context, refusal)

        return export

    async def _submit(self, payload: Payload) -> Accepted:
        if self._in_flight >= _MOST_EXPORTS:
            raise OverloadedError(_BUSY_RETRY_S, "too many exports at once")
        self._in_flight += 1
        try:
            return await self._committer.submit(payload)
        finally:
            self._in_flight -= 1


def _try_to_bind(address: str) -> None:
    """Bind the address and let go of it: where it can't be bound, gRPC's core writes to stderr by
    itself, and its error tells of its insides.

    Raises:
        OSError: it can't be bound.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal():  # a socket's path, and whatever else gRPC may know
        return
    found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        probe.bind(where)


async def _abort(context: _Call, error: IntakeError | AccessError) -> bytes:
    """End the call with the error's status; it does not return."""
    status = status_of(error)
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    if isinstance(error, OverloadedError):
        # OpenTelemetry's Python exporter reads the delay here, not in the status details.
        trailers.append(("google.rpc.retryinfo-bin", retry_info(error).SerializeToString()))
    await context.abort(_CODES[status.code], str(error), tuple(trailers))
    raise AssertionError("abort returned")
