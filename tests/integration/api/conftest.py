"""The HTTP face over parts that live in memory, in process and behind a real server."""

import asyncio
import functools
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute

from heatshield.clock import ManualClock
from heatshield.contract import (
    BreakerEntry,
    Delta,
    PlatformMode,
    Report,
    ReportAnswer,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.rules import Alert
from heatshield_collector.api.app import create_app
from heatshield_collector.api.stream import encode_event
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.events import EventHub, Signal
from heatshield_collector.ports import (
    CallLoad,
    HotUsersView,
    Ports,
    TripRefusedError,
    TripRequest,
    UserLoad,
)
from heatshield_collector.self_metrics import SelfMetrics
from heatshield_collector.server import GracefulServer, address_of, listen

ADMIN_TOKEN = "of the admin"  # noqa: S105
"""What every call of a face has."""

START_NS = 1_700_000_000 * 10**9


@dataclass
class MemoryStore:
    """Rows in lists; remembers the last query."""

    spans: list[dict] = field(default_factory=list)
    logs: list[dict] = field(default_factory=list)
    summaries: list[dict] = field(default_factory=list)
    rows: dict[str, list[dict]] = field(default_factory=dict)
    user: tuple[str | None, int | None] = (None, None)
    query: Any = None
    error: Exception | None = None

    def requests(self, query):
        if self.error:
            raise self.error
        self.query = query
        return self.summaries

    def spans_of(self, trace_id):
        return [row for row in self.spans if row["trace_id"] == trace_id]

    def logs_of(self, trace_id):
        return [row for row in self.logs if row["trace_id"] == trace_id]

    def user_of(self, _trace_id):
        return self.user

    def recent(self, table, limit):
        return self.rows.get(table, [])[:limit]

    def findings(self, query):
        self.query = query
        return self.rows.get("findings", [])[: query.limit]


@dataclass
class FixedLoads:
    """One hot user and one call; remembers what it was asked."""

    asked: tuple = ()
    own: bool | None = None

    def hot_users(self, cost, window, limit, by, *, own=False):
        self.own = own
        self.asked = (cost, window, limit, by)
        row = UserLoad("u-1", "shop", "POST /p", 2.0, 1.9, 2.1, 0.25, None, "hot", "b-1", "ab" * 16)
        return HotUsersView(cost, window, START_NS, 8.0, [row])

    def calls(self, window, limit):
        self.asked = (window, limit)
        return [CallLoad("shop", "POST /p", 10.0, 0.5, 2.0, 20_000.0, 12.5, None)]


class MemoryBreakers:
    """A breaker state that remembers one version back."""

    def __init__(self) -> None:
        self.changed = Signal()
        self.reports: list[Report] = []
        self.changes_by: list[tuple[str, str]] = []
        self.full = False
        self._entries: dict[str, BreakerEntry] = {}
        self._mode = PlatformMode.PROTECT
        self._at = StateVersion(3, 17)
        self._last: Delta | None = None

    def at(self):
        return self._at

    def snapshot(self):
        return Snapshot(self._at, self._mode, tuple(self._entries.values()))

    def left_s(self):
        return dict.fromkeys(self._entries, 12.5)

    def not_enforcing(self):
        return sum(not report.enforcing for report in self.reports)

    def delta_since(self, base):
        return self._last if self._last and self._last.base == base else None

    def subscribe(self, wake):
        return self.changed.subscribe(wake)

    def trip(self, request: TripRequest):
        if self.full:
            raise TripRefusedError("100 entries are held, more are not granted")
        entry = BreakerEntry(
            id=f"b-{len(self._entries) + 1}",
            user=request.user,
            service=request.service,
            call=request.call,
            mode=request.mode,
            lease_ms=request.lease_ms or 30_000,
            issuer=request.issuer,
            reason=request.reason,
            rate_per_s=request.rate_per_s,
            seq=self._at.version + 1,
        )
        self._entries[entry.id] = entry
        self._move(upsert=(entry,))
        return entry

    def clear(self, entry_id, by):
        entry = self._entries.pop(entry_id, None)
        if entry:
            self.changes_by.append((entry_id, by))
            self._move(remove=(entry_id,))
        return entry

    def report(self, report):
        self.reports.append(report)
        return ReportAnswer(self.at(), {row.budget: 0.5 for row in report.offered})

    def mode(self):
        return self._mode

    def set_mode(self, mode, by):
        self._mode = mode
        self.changes_by.append((mode.value, by))
        self._move()

    def _move(self, upsert=(), remove=()):
        base = self._at
        self._at = StateVersion(base.epoch, base.version + 1)
        self._last = Delta(base, self._at, self._mode, upsert, remove)
        self.changed.fire()


@dataclass
class Face:
    """The application over memory, and a way to call it as some peer."""

    ports: Ports
    intake: list[BaseRoute] = field(default_factory=list, kw_only=True)
    reasons: list[str] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    peer: str = "127.0.0.1"
    host: str = "127.0.0.1:4318"

    @functools.cached_property
    def app(self) -> Any:
        return create_app(self.ports, self.intake)

    @property
    def store(self) -> MemoryStore:
        return self.ports.store

    @property
    def breakers(self) -> MemoryBreakers:
        return self.ports.breakers

    def with_token(self, token: str) -> "Face":
        return replace(
            self, ports=replace(self.ports, authenticator=AdminTokenAuthenticator(token))
        )

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(
                self.app, raise_app_exceptions=False, client=(self.peer, 5)
            )
            async with httpx.AsyncClient(
                transport=transport, base_url=f"http://{self.host}"
            ) as client:
                client.headers["Authorization"] = f"Bearer {ADMIN_TOKEN}"
                return await client.request(method, path, **request)

        return asyncio.run(ask())

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.call("GET", path, **request)


@pytest.fixture
def face() -> Face:
    reasons: list[str] = []
    alerts: list[Alert] = []
    ports = Ports(
        store=MemoryStore(),
        loads=FixedLoads(),
        alerts=lambda: alerts,
        breakers=MemoryBreakers(),
        events=EventHub(encode_event),
        ready=lambda: reasons,
        metrics=SelfMetrics().render,
        clock=ManualClock(epoch_ns=START_NS),
        authenticator=AdminTokenAuthenticator(ADMIN_TOKEN),
    )
    return Face(ports, reasons, alerts)


@pytest.fixture
def admin() -> dict[str, str]:
    """Headers of the admin."""
    return {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@contextmanager
def served(app: Any, hub: EventHub):
    """A real server on loopback; yields its base URL and the server."""
    listener = listen("127.0.0.1:0")
    server = GracefulServer(app, hub.close)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        yield f"http://{address_of(listener)}", server
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def live(face):
    """(base URL, server) of the face on loopback."""
    with served(face.app, face.ports.events) as running:
        yield running


class SseClient:
    """Reads server-sent events of one response, heartbeats and comments left in."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, str, str]:
        """(event, id, data) of the next event that is no comment."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                return fields.get("event", ""), fields.get("id", ""), fields.get("data", "")
        raise EOFError("the stream ended")

    def until(self, name: str) -> tuple[str, str, str]:
        """The next event of this name."""
        while True:
            event = self.next()
            if event[0] == name:
                return event


@pytest.fixture
def sse():
    """Open a stream: ``with sse(url) as events``."""

    @contextmanager
    def open_stream(url: str, headers: Mapping[str, str] | None = None):
        with (
            httpx.Client(timeout=10) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield SseClient(response)

    return open_stream


@pytest.fixture
def span_row():
    """Makes rows of SPANS with ordinary values."""

    def make(span_id: int, parent: int = 0, **columns: Any) -> dict[str, Any]:
        row = {
            "trace_id": bytes.fromhex("ab" * 16),
            "span_id": span_id.to_bytes(8, "big"),
            "parent_span_id": parent.to_bytes(8, "big") if parent else b"",
            "service": "shop",
            "instance": "i-1",
            "name": "POST /p",
            "kind": 2,
            "start_ns": START_NS,
            "duration_ns": 10**9,
            "status": 0,
            "status_message": "",
            "user": None,
            "call": None,
            "backend": None,
            "rejected": None,
            "elements": 0,
            "rows": 0,
            "bytes": 0,
            "attribute_keys": "",
            "attribute_values": "",
            "events": None,
        }
        return row | columns

    return make
