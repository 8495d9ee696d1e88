"""Compressed bodies that were made to take time: honest senders and SIGTERM don't wait for them."""

import contextlib
import gzip
import http.client
import signal
import threading
import time

import pytest
from export_requests import traces

from collector_process import collector_process

EMPTY_MEMBERS = gzip.compress(b"") * 400_000
"""8 MB; two of them held up everybody for more than a minute, and the process for half an hour."""


def post(collector, body, **headers):
    connection = http.client.HTTPConnection(collector.host, collector.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/v1/traces", body, named)
    return connection.getresponse().status


@pytest.fixture
def collector(tmp_path):
    with collector_process(tmp_path / "data") as running:
        yield running


def test_bodies_of_empty_members_hold_up_nobody(collector) -> None:
    media = {"content_type": "application/x-protobuf", "content_encoding": "gzip"}
    answered: list[int] = []
    senders = [
        threading.Thread(target=lambda: answered.append(post(collector, EMPTY_MEMBERS, **media)))
        for _ in range(4)
    ]
    for sender in senders:
        sender.start()
    honest = gzip.compress(traces(range(2_000)), 1)
    assert len(honest) > 8 * 1024  # so large that it is inflated on the threads of the others
    began_s = time.monotonic()
    assert post(collector, honest, **media) == 200
    assert time.monotonic() - began_s < 5
    for sender in senders:
        sender.join()
    assert answered == [400] * 4


def test_json_that_takes_long_does_not_outlive_sigterm(collector) -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % b",".join([b"{}"] * 499_000)

    def send() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            post(collector, body, content_type="application/json")

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.5)  # the conversion has begun
    collector.process.send_signal(signal.SIGTERM)
    collector.process.wait(10)
    sender.join()
