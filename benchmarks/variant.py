"""One FastAPI service in one of three variants, driven in its own process by the instrumentation
benchmark: ``python benchmarks/variant.py bare|heatshield|stock COLLECTOR_URL REDIS_URL``.

It reads ``PATH COUNT`` from its standard input, one a line, sends itself that many requests one
after the other without a server (the ASGI application is called with a scope), flushes what its
instrumentation has queued, and answers with a line of JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import redis.asyncio
from fastapi import FastAPI

__all__ = ["PATHS", "VARIANTS", "Round", "main"]

PATHS: Final = {"plain": "/items/4711", "redis": "/users/u-0000042/stickers/7"}
KEY: Final = "user:u-0000042:stickers"
OWNED: Final = 10

_HEADERS: Final = [
    (b"host", b"shop.example.com"),
    (b"user-agent", b"stickers/8.1.2 (Android 16; build 20311)"),
    (b"accept", b"application/json"),
    (b"x-user-id", b"u-0000042"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


@dataclass(slots=True)
class Round:
    """What one round took.

    Attributes:
        latencies_us: of each request.
        cpu_us: processor time of the whole process a request, the export of its spans included.
    """

    latencies_us: list[float] = field(default_factory=list)
    cpu_us: float = 0.0


def _bare(_app: FastAPI, _collector: str) -> Callable[[], object]:
    return lambda: None


def _heatshield(_app: FastAPI, collector: str) -> Callable[[], object]:
    import heatshield

    heatshield.instrument(service="variant", endpoint=collector, user_header="x-user-id")
    return heatshield.flush


def _stock(app: FastAPI, collector: str) -> Callable[[], object]:
    """As OpenTelemetry's documentation has it, with its defaults."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "variant"}))
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{collector}/v1/traces"))
    )
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)
    RedisInstrumentor().instrument()
    return provider.force_flush


VARIANTS: Final = {"bare": _bare, "heatshield": _heatshield, "stock": _stock}


def _app(redis_url: str) -> FastAPI:
    app = FastAPI()
    cache = redis.asyncio.Redis.from_url(redis_url)

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/users/{user}/stickers/{sticker}")
    async def owns(user: str, sticker: int) -> dict[str, bool | int]:
        key = f"user:{user}:stickers"
        owned = await cache.sismember(key, str(sticker))
        every = await cache.smembers(key)
        return {"owned": bool(owned), "of": len(every)}

    return app


async def _request(app: FastAPI, path: str) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(_HEADERS),
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }
    status = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        status.append(message.get("status"))

    await app(scope, receive, send)
    assert status[0] == 200, status


async def _round(app: FastAPI, path: str, count: int, flush: Callable[[], object]) -> Round:
    found, cpu_ns = Round(), time.process_time_ns()
    for _ in range(count):
        began = time.perf_counter_ns()
        await _request(app, path)
        found.latencies_us.append((time.perf_counter_ns() - began) / 1e3)
    flush()
    found.cpu_us = (time.process_time_ns() - cpu_ns) / 1e3 / count
    return found


def main() -> None:
    """Serve rounds until the input ends."""
    variant, collector, redis_url = sys.argv[1:]
    app = _app(redis_url)
    flush = VARIANTS[variant](app, collector)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            path, count = line.split()
            found = runner.run(_round(app, path, int(count), flush))
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
