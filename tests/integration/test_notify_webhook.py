"""A real webhook over real HTTP: apprise's json:// to a server on loopback."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from moments import at

from heatshield_alerts import (
    SHIPPED_RULES,
    InstantSamples,
    Notifier,
    RuleRunner,
    Sample,
    load_file,
)
from heatshield_alerts.notify import RetryPolicy


class Webhook(ThreadingHTTPServer):
    """Keeps what it is sent; answers with the next status, 200 when there is none left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: Queue = Queue()
        self.statuses: list[int] = []


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.server.received.put((status, json.loads(body)))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_harmful_user_is_told_when_it_fires_and_when_it_is_resolved(webhook):
    """From the series to the webhook, through the shipped rule; a target that fails once is tried
    again; what did not change is not told twice."""
    webhook.statuses = [503]
    runner = RuleRunner(load_file(SHIPPED_RULES))
    notifier = Notifier(
        [f"json://127.0.0.1:{webhook.server_port}/hook"],
        public_url="http://collector:4318",
        retry=RetryPolicy(first_s=0.01),
    )
    labels = {"class": "harmful", "user": "u-1", "service": "shop", "call": "POST /p"}
    hot = InstantSamples([Sample.of("heatshield_finding", labels, 2.5)])
    notifier.start()
    try:
        for at_s, source in [
            (0.0, hot),
            (0.25, hot),
            (0.5, InstantSamples([])),
            (5.5, InstantSamples([])),
        ]:
            for moved in runner.evaluate(source, at(at_s)).transitions:
                notifier.submit(moved.alert, ["0af7651916cd43dd8448eb211c80319c"])
            for alert in runner.alerts:
                notifier.submit(alert)
        answers = [webhook.received.get(timeout=10) for _ in range(3)]
    finally:
        notifier.stop(10)
    assert webhook.received.empty()
    assert [status for status, _ in answers] == [503, 200, 200]
    firing, resolved = answers[1][1], answers[2][1]
    assert firing == answers[0][1]
    assert (firing["title"], firing["type"]) == (
        "[FIRING] HarmfulUser: u-1 shop POST /p",
        "failure",
    )
    assert "load: 2.5" in firing["message"]
    assert (
        "http://collector:4318/api/requests/0af7651916cd43dd8448eb211c80319c" in firing["message"]
    )
    assert (resolved["title"], resolved["type"]) == (
        "[RESOLVED] HarmfulUser: u-1 shop POST /p", "success",
    )  # fmt: skip
    counts = notifier.counts
    assert (counts.sent, counts.retried, counts.failed, counts.dropped) == (2, 1, 0, 0)
