"""A small real collector on loopback that keeps what it is sent, and programs to run against it."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """Listens on an ephemeral port. ``statuses`` answers the next posts of spans and logs, then
    200; snapshots of metrics and charge reports, which come whenever they like, are kept apart.
    """

    def __init__(self):
        self.payloads, self.reports, self.renewals, self.listeners = [], [], [], []
        self.statuses = []
        self.snapshots, self.metrics_status = [], 200
        self.charges, self.charges_status = [], 200
        self.streams = set()
        self.state = {"epoch": 1, "version": 1, "mode": "protect", "entries": []}
        self.heartbeat_s = 0.2
        self._changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = outer.take(self.path, body, self.headers)
                self.answer(status, b"", headers)

            def do_GET(self):
                if self.path.startswith("/v1/breakers/stream"):
                    outer.stream(self)
                else:
                    outer.renewals.append((time.monotonic(), self.headers.get("if-none-match")))
                    fresh = self.headers.get("if-none-match") == f'"{outer.version}"'
                    body = b"" if fresh else json.dumps(outer.state).encode()
                    self.answer(304 if fresh else 200, body, {"etag": f'"{outer.version}"'})

            def answer(self, status, body, headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def version(self):
        return f"{self.state['epoch']}.{self.state['version']}"

    def take(self, path, body, headers):
        with self._changed:
            self._changed.notify_all()
            if path == "/v1/breakers/report":
                self.reports.append((time.monotonic(), json.loads(body)))
                return 200, {}
            if path == "/v1/charges":
                self.charges.append(json.loads(body))
                return self.charges_status, {}
            if path == "/v1/metrics":
                self.snapshots.append((body, self.metrics_status))
                return self.metrics_status, {}
            status, more = self.statuses.pop(0) if self.statuses else (200, {})
            self.payloads.append((time.monotonic(), path, body, dict(headers), status))
            return status, more

    def stream(self, handler):
        events = queue.Queue()
        self.listeners.append(
            ({k: v[0] for k, v in parse_qs(urlsplit(handler.path).query).items()},
             handler.headers.get("last-event-id"))
        )  # fmt: skip
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        self.streams.add(events)
        try:
            self.send(handler, "snapshot", self.state)
            while True:
                try:
                    event = events.get(timeout=self.heartbeat_s)
                except queue.Empty:
                    event = ("heartbeat", {})
                if event is None:
                    break
                self.send(handler, *event)
        except OSError:
            pass
        self.streams.discard(events)
        handler.close_connection = True

    def send(self, handler, name, data):
        text = f"id: {self.version}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        handler.wfile.flush()

    def grant(self, user, call, service="shop", **more):
        entry = {
            "id": f"b-{self.state['version']}", "user": user, "service": service, "call": call,
            "mode": "reject", "lease_ms": 30_000, "issuer": "human:test", **more,
        }  # fmt: skip
        base = self.version
        self.state["version"] += 1
        self.state["entries"].append(entry)
        delta = {
            "base": base, "epoch": self.state["epoch"], "version": self.state["version"],
            "mode": "protect", "upsert": [entry], "remove": [],
        }  # fmt: skip
        self.push("delta", delta)
        return entry["id"]

    def push(self, name, data):
        for events in list(self.streams):
            events.put((name, data))

    def drop_streams(self):
        for events in list(self.streams):
            events.put(None)

    @property
    def spans(self):
        """(resource attributes, span) of all that was accepted."""
        return [
            (_plain(of_resource.resource.attributes), span)
            for _, path, body, _, status in list(self.payloads)
            if path == "/v1/traces" and status == 200
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in of_resource.scope_spans
            for span in scope.spans
        ]

    @property
    def logs(self):
        return [
            record
            for _, path, body, _, status in list(self.payloads)
            if path == "/v1/logs" and status == 200
            for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in of_resource.scope_logs
            for record in scope.log_records
        ]

    def close(self):
        self.drop_streams()
        self.server.shutdown()
        self.server.server_close()


def _plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


@pytest.fixture
def plain():
    """OTLP attributes as a dictionary."""
    return _plain


@pytest.fixture
def until():
    """Wait until a condition holds, for at most ten seconds."""

    def wait(condition, timeout_s=10.0):
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def run_python(collector, tmp_path):
    """Run a program in its own interpreter, pointed at the collector; returns its completion."""

    def run(code, **environ):
        program = tmp_path / "program.py"
        program.write_text(code)
        return subprocess.run(
            [sys.executable, str(program)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "HEATSHIELD_ENDPOINT": collector.endpoint, **environ},
        )

    return run
