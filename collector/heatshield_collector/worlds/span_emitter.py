"""Spans, as an instrumented process exports them: OTLP bytes, urgent ones at once."""

from typing import Final

from heatshield import names
from heatshield.export.protobuf import length, message, text, varint
from heatshield.export.urgency import Urgency
from heatshield_collector.worlds.requests import Operation, Request
from heatshield_collector.worlds.services import Instance
from heatshield_collector.worlds.telemetry import Deliver, Faults

__all__ = ["SpanEmitter"]

SERVER: Final = b"\x30\x02"
CLIENT: Final = b"\x30\x03"
FAILED: Final = message(b"\x7a", [b"\x18\x02"])
"""Status of a span: error."""

ERROR: Final = 500


class SpanEmitter:
    """Writes the spans of one instance.

    Args:
        instance: whose.
        epoch_ns: wall clock at the world's start.
        faults: what is wrong with them.
        deliver: takes a payload.
    """

    def __init__(self, instance: Instance, epoch_ns: int, faults: Faults, deliver: Deliver) -> None:
        self.urgent = False
        self._instance = instance
        self._service = instance.service.name
        self._epoch_ns = epoch_ns
        self._faults = faults
        self._deliver = deliver
        self._is_lost = self._service in faults.lost
        self._spans: list[bytes] = []
        self._urgency = Urgency()
        resource = [
            _string(b"\x0a", names.SERVICE_NAME, self._service),
            _string(b"\x0a", names.SERVICE_INSTANCE_ID, instance.name),
            _integer(b"\x0a", names.WORKERS, instance.shape.claims or instance.worker_count),
        ]
        self._resource = message(b"\x0a", resource)
        self._scope = message(b"\x0a", [text(b"\x0a", "heatshield")])

    def began(self, request: Request) -> None:
        """Spans tell of what has ended."""

    def operated(self, request: Request, operation: Operation) -> None:
        """Write the client's span of an operation."""
        if self._drops(request):
            return
        step, ended_s = operation.step, operation.ended_s or 0.0
        said = [
            _string(b"\x4a", "db.system", step.backend.system),
            _string(b"\x4a", "server.address", step.backend.address),
            _integer(b"\x4a", names.COST_ELEMENTS, step.elements),
        ]
        self._write(
            request, operation.number, request.span, step.command, CLIENT,
            operation.began_s, ended_s, said,
        )  # fmt: skip
        self.urgent |= self._urgency.judge(step.command, ended_s - operation.began_s, step.elements)

    def visited(self, request: Request, answer: Request, number: int, began_s: float) -> None:
        """Write the client's span of a request to another service."""
        if not self._drops(request):
            self._write(
                request, number, request.span, answer.call, CLIENT, began_s,
                answer.ended_s or began_s, [],
            )  # fmt: skip

    def ended(self, request: Request) -> None:
        """Write the server's span."""
        if self._drops(request):
            return
        ended_s, said = request.ended_s or 0.0, []
        if request.waited_s:
            said.append(_integer(b"\x4a", names.WAITED_US, round(request.waited_s * 1e6)))
        if request.refused:
            said.append(_string(b"\x4a", names.REJECTED, request.entry_id))
        elif request.status >= ERROR:
            said.append(FAILED)
        else:
            seconds = ended_s - request.sent_s - request.waited_s
            self.urgent |= self._urgency.judge(request.call, seconds, 0)
        self._write(
            request, request.span, request.parent, request.call, SERVER, request.sent_s, ended_s,
            said,
        )  # fmt: skip

    def flush(self, now_s: float) -> None:
        """Send the spans that have ended."""
        del now_s  # a span has its own times
        self.urgent = False
        if not self._spans:
            return
        scope = message(b"\x12", [self._scope, *self._spans])
        self._spans = []
        self._deliver("spans", message(b"\x0a", [self._resource, scope]))

    def _drops(self, request: Request) -> bool:
        return self._is_lost or not self._faults.keeps(request.trace)

    def _write(
        self, request: Request, number: int, parent: int, name: str, kind: bytes,
        began_s: float, ended_s: float, said: list[bytes],
    ) -> None:  # fmt: skip
        offset_ns = self._epoch_ns + round(self._instance.clock_s * 1e9)
        trace = 1 if self._faults.one_trace else request.trace
        parts = [
            b"\x0a\x10" + trace.to_bytes(16, "big"),
            b"\x12\x08" + number.to_bytes(8, "big"),
        ]
        if parent:
            parts.append(b"\x22\x08" + parent.to_bytes(8, "big"))
        parts += [
            text(b"\x2a", name),
            kind,
            b"\x39" + (offset_ns + round(began_s * 1e9)).to_bytes(8, "little"),
            b"\x41" + (offset_ns + round(ended_s * 1e9)).to_bytes(8, "little"),
            _string(b"\x4a", names.CALL, request.call),
            *said,
        ]
        if request.user is not None and self._faults.names_user(self._service):
            parts.append(_string(b"\x4a", names.ENDUSER_ID, request.user))
        body = b"".join(parts)
        self._spans.append(b"\x12" + length(len(body)) + body)


def _string(tag: bytes, key: str, value: str) -> bytes:
    """An attribute (``KeyValue``)."""
    return message(tag, [text(b"\x0a", key), message(b"\x12", [text(b"\x0a", value)])])


def _integer(tag: bytes, key: str, value: int) -> bytes:
    return message(tag, [text(b"\x0a", key), message(b"\x12", [b"\x18" + varint(value)])])
