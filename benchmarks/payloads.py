"""OTLP payloads as a busy fleet sends them, nearly free to make.

A payload is what one instance of a service sends at once: 512 spans in 64 requests, each request a
server span, a guard inside it, five Redis commands inside that and one call to another service,
children first, because they end first. A span has 10 attributes and 390 bytes on average. The
users follow Zipf's law (s = 1) over a million.

Protobuf makes each instance's payload once; after that what differs between requests (trace ids,
users, times) is written over its bytes, all 64 requests at once, some 100 µs a payload.
"""

import struct
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["REQUESTS", "SPANS", "SPANS_PER_REQUEST", "USERS", "Template", "zipf_users"]

REQUESTS: Final = 64
SPANS_PER_REQUEST: Final = 8
SPANS: Final = REQUESTS * SPANS_PER_REQUEST
USERS: Final = 1_000_000

_SERVICES: Final = ("gateway", "talk", "capability", "shop")
_ROUTES: Final = ("/users/{user}/stickers", "/purchases", "/messages/{id}", "/rooms/{id}/members")
_COMMANDS: Final = ("SISMEMBER", "SADD", "HGETALL", "GET", "EXPIRE")

_TRACE_MARK: Final = 0xA5A5_5A5A_0000_0000
"""High half of the placeholder trace ids; the low half is the request's number."""
_TIME_MARK: Final = 0x7B7B_0000_0000_0000
"""Placeholder times: this and twice the span's number, one more for its end."""
_USER_WIDTH: Final = 9
_TENS: Final = 10 ** np.arange(_USER_WIDTH - 3, -1, -1)

_US: Final = 1_000
_REQUEST_NS: Final = 1_200 * _US
"""Duration of a server span: 10,000 requests/s must fit into the fleet that sends them."""

Values = dict[str, str | int | bool]

_SERVER: Final = 2
_CLIENT: Final = 3
_INTERNAL: Final = 1


def zipf_users(seed: int, population: int = USERS) -> Any:
    """A function that draws n user numbers, int64[n]."""
    weights = 1.0 / np.arange(1, population + 1)
    cumulative = np.cumsum(weights) / weights.sum()
    random = np.random.default_rng(seed)
    # A multiplication by a unit modulo the population spreads the popular users over all numbers.
    return lambda n: np.searchsorted(cumulative, random.random(n)) * 7919 % population


class Template:
    """The payloads of one instance.

    Args:
        number: of the instance; decides its service, too.
        users: draws user numbers.
        requests: requests a payload.
    """

    def __init__(self, number: int, users: Any, requests: int = REQUESTS) -> None:
        self._users = users
        self._random = np.random.default_rng(number)
        self.spans = requests * SPANS_PER_REQUEST
        body = _message(number, requests).SerializeToString()
        self._bytes = np.frombuffer(bytearray(body), dtype=np.uint8)
        traces = [struct.pack(">QQ", _TRACE_MARK | at, at) for at in range(requests)]
        self._traces = _places(body, traces, SPANS_PER_REQUEST, 16)
        named = [_user_text(at) for at in range(requests)]
        self._digits = _places(body, named, SPANS_PER_REQUEST, _USER_WIDTH)[..., 2:]
        times = [struct.pack("<Q", _TIME_MARK + at) for at in range(2 * self.spans)]
        self._times = _places(body, times, 1, 8)
        self._after_ns = _offsets_ns(requests)

    def payload(self, now_ns: int | None = None) -> bytes:
        """A payload of new requests that have just ended; ``now_ns`` in place of the clock's."""
        requests = len(self._traces)
        self._bytes[self._traces] = self._random.integers(0, 256, (requests, 1, 16), np.uint8)
        digits = self._users(requests)[:, None] // _TENS % 10 + ord("0")
        self._bytes[self._digits] = digits[:, None, :].astype(np.uint8)
        times = (time.time_ns() if now_ns is None else now_ns) - 10 * _REQUEST_NS + self._after_ns
        self._bytes[self._times] = times.astype("<u8").view(np.uint8).reshape(-1, 1, 8)
        return self._bytes.tobytes()


def _places(body: bytes, texts: list[bytes], times: int, width: int) -> npt.NDArray[np.int64]:
    """int64[texts, times, width]: where each byte of each placeholder stands; they are in order."""
    places, start = [], 0
    for text in texts:
        found = [start - 1]
        for _ in range(times):
            found.append(body.index(text, found[-1] + 1))
        places.append(found[1:])
        start = found[1]
    return np.array(places)[..., None] + np.arange(width)


def _user_text(number: int) -> bytes:
    return f"u-{number:0{_USER_WIDTH - 2}d}".encode()


def _offsets_ns(requests: int) -> npt.NDArray[np.int64]:
    """int64[2 * spans]: start and end of each span after the batch's origin."""
    child_us = [(150 + 160 * at, 280 + 160 * at) for at in range(5)]
    spans_us = [*child_us, (960, 1_100), (100, 1_150), (0, 1_200)]
    one = np.array(spans_us, dtype=np.int64).reshape(-1) * _US
    return (one[None, :] + 20 * _US * np.arange(requests)[:, None]).reshape(-1)


def _message(number: int, requests: int) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    of_resource = message.resource_spans.add()
    resource: Values = {
        "service.name": _SERVICES[number % len(_SERVICES)],
        "service.instance.id": f"instance-{number:04d}",
        "service.version": "2026.11.3",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "host.name": f"node-{number % 7}",
    }
    _fill(of_resource.resource.attributes, resource)
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "opentelemetry.instrumentation.asgi"
    for at in range(requests):
        _request(of_scope.spans, at)
    return message


def _request(spans: Any, at: int) -> None:
    route = _ROUTES[at % len(_ROUTES)]
    call = f"POST {route}"
    always: Values = {"enduser.id": _user_text(at).decode(), "heatshield.call": call}
    guarded: Values = always | {"heatshield.call": "ownership.refresh"}
    rows = [(name, _CLIENT, 6, _redis(name) | guarded) for name in _COMMANDS]
    rows += [
        ("POST", _CLIENT, 6, _client() | guarded),
        ("ownership.refresh", _INTERNAL, 7, _guard() | guarded),
        (call, _SERVER, -1, _server(route) | always),
    ]
    for place, (name, kind, parent, attributes) in enumerate(rows):
        number = at * SPANS_PER_REQUEST + place
        span = spans.add(name=name, kind=kind, flags=1)
        span.trace_id = struct.pack(">QQ", _TRACE_MARK | at, at)
        span.span_id = _span_id(place)
        if parent >= 0:
            span.parent_span_id = _span_id(parent)
        span.start_time_unix_nano = _TIME_MARK + 2 * number
        span.end_time_unix_nano = _TIME_MARK + 2 * number + 1
        _fill(span.attributes, attributes)


def _span_id(place: int) -> bytes:
    # Random would be as good: the trace id makes a span's identity unique.
    return bytes([0xC3, place + 1, 0x11, 0x7F, 0x52, 0x99, 0xE4, 0x3D])


def _fill(attributes: Any, values: Values) -> None:
    for key, value in values.items():
        one = attributes.add(key=key).value
        if isinstance(value, bool):
            one.bool_value = value
        elif isinstance(value, int):
            one.int_value = value
        else:
            one.string_value = value


def _redis(command: str) -> Values:
    return {
        "db.system": "redis",
        "db.statement": f"{command} ? ?",
        "db.redis.database_index": 0,
        "db.redis.args_length": 3,
        "net.peer.name": "redis-0",
        "net.peer.port": 6379,
        "net.transport": "ip_tcp",
        "heatshield.cost.elements": 1,
    }


def _client() -> Values:
    return {
        "http.method": "POST",
        "http.url": "http://capability.internal:8080/users/me/stickers/check",
        "http.status_code": 200,
        "net.peer.name": "capability.internal",
        "net.peer.port": 8080,
        "http.request_content_length": 118,
        "http.response_content_length": 42,
        "network.protocol.version": "1.1",
    }


def _guard() -> Values:
    return {
        "heatshield.guard": True,
        "code.function.name": "heatshield_stickershop.ownership.refresh",
        "code.file.path": "/srv/stickershop/ownership.py",
        "code.line.number": 61,
        "thread.id": 140_223_377,
        "thread.name": "MainThread",
        "heatshield.cost.rows": 12,
        "heatshield.cost.elements": 12,
    }


def _server(route: str) -> Values:
    return {
        "http.method": "POST",
        "http.route": route,
        "http.target": route.replace("{user}", "me").replace("{id}", "4711"),
        "http.status_code": 201,
        "http.host": "stickers.example.com",
        "http.user_agent": "stickers/8.1.2 (Android 16; build 20311; en-GB) okhttp/5.3.0",
        "net.peer.ip": "203.0.113.77",
        "http.flavor": "1.1",
    }
