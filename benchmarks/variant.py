"""One FastAPI service in one of five variants, driven in its own process by the instrumentation
benchmark: ``python benchmarks/variant.py NAME COLLECTOR_URL SINK_URL REDIS_URL``.

Each is set up as its documentation has it, with its defaults, and exports all it makes: the
OpenTelemetry ones to a real collector, Sentry to a sink that answers 200.

It reads ``PATH COUNT`` from its standard input, one a line, sends itself that many requests one
after the other without a server (the ASGI application is called with a scope), flushes what its
instrumentation has queued, and answers with a line of JSON.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import redis.asyncio
from fastapi import FastAPI

__all__ = ["PATHS", "VARIANTS", "WITHOUT_CHARGES", "Round", "main", "request"]

PATHS: Final = {"plain": "/items/4711", "whole": "/users/u-0000042/stickers/7"}
"""A route that does nothing; and one with a Redis command and a log record."""

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
        export_cpu_us: of that, what was used outside of the thread that serves.
        rss_mib: memory of the process after the round.
    """

    latencies_us: list[float] = field(default_factory=list)
    cpu_us: float = 0.0
    export_cpu_us: float = 0.0
    rss_mib: float = 0.0


def _bare(_app: FastAPI, _collector: str, _sink: str) -> Callable[[], object]:
    return lambda: None


def _heatshield(_app: FastAPI, collector: str, _sink: str) -> Callable[[], object]:
    import heatshield

    heatshield.instrument(service="variant", endpoint=collector, user_header="x-user-id")
    return heatshield.flush


def _without_charges(_app: FastAPI, collector: str, _sink: str) -> Callable[[], object]:
    import heatshield

    heatshield.instrument(
        service="variant", endpoint=collector, user_header="x-user-id", charge_reports=False
    )
    return heatshield.flush


def _stock(app: FastAPI, collector: str, _sink: str) -> Callable[[], object]:
    """What OpenTelemetry's distro sets up: traces and metrics over OTLP/HTTP, batch processor."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "variant"})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{collector}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{collector}/v1/metrics"))
    metrics.set_meter_provider(MeterProvider([reader], resource=resource))
    FastAPIInstrumentor.instrument_app(app)
    RedisInstrumentor().instrument()
    return provider.force_flush


def _sentry(_app: FastAPI, _collector: str, sink: str) -> Callable[[], object]:
    import sentry_sdk

    host = sink.removeprefix("http://")
    sentry_sdk.init(dsn=f"http://key@{host}/1", traces_sample_rate=1.0, enable_logs=True)
    return lambda: sentry_sdk.flush(10)


def _logfire(app: FastAPI, collector: str, _sink: str) -> Callable[[], object]:
    """Its own exporter sends to its cloud alone, so the same spans go to the collector instead."""
    import logfire
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{collector}/v1/traces")
    logfire.configure(
        send_to_logfire=False,
        service_name="variant",
        console=False,
        distributed_tracing=True,
        additional_span_processors=[BatchSpanProcessor(exporter)],
    )
    logfire.instrument_fastapi(app)
    logfire.instrument_redis()
    logging.getLogger().addHandler(logfire.LogfireLoggingHandler())
    return logfire.force_flush


VARIANTS: Final = {
    "bare": _bare,
    "heatshield": _heatshield,
    "stock": _stock,
    "sentry": _sentry,
    "logfire": _logfire,
}

WITHOUT_CHARGES: Final = "without charges"
"""Heatshield without charge reports: what those cost is measured against it."""


def _app(redis_url: str) -> FastAPI:
    app, log = FastAPI(), logging.getLogger("shop")
    cache = redis.asyncio.Redis.from_url(redis_url)

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/users/{user}/stickers/{sticker}")
    async def owns(user: str, sticker: int) -> dict[str, bool]:
        owned = await cache.sismember(f"user:{user}:stickers", str(sticker))
        log.info("sticker %d of %s: %s", sticker, user, owned)
        return {"owned": bool(owned)}

    return app


async def request(app: FastAPI, path: str) -> None:
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
    found, cpu_ns, own_ns = Round(), time.process_time_ns(), time.thread_time_ns()
    for _ in range(count):
        began = time.perf_counter_ns()
        await request(app, path)
        found.latencies_us.append((time.perf_counter_ns() - began) / 1e3)
    flush()
    cpu_us = (time.process_time_ns() - cpu_ns) / 1e3
    found.cpu_us = cpu_us / count
    found.export_cpu_us = (cpu_us - (time.thread_time_ns() - own_ns) / 1e3) / count
    found.rss_mib = psutil.Process().memory_info().rss / 2**20
    return found


def main() -> None:
    """Serve rounds until the input ends."""
    variant, collector, sink, redis_url = sys.argv[1:]
    # A console that is written to and never read, as in a container.
    logging.basicConfig(stream=Path(os.devnull).open("w"), level=logging.INFO)  # noqa: SIM115
    app = _app(redis_url)
    set_up = _without_charges if variant == WITHOUT_CHARGES else VARIANTS[variant]
    flush = set_up(app, collector, sink)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            path, count = line.split()
            found = runner.run(_round(app, path, int(count), flush))
            print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main()
