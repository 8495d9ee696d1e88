"""A real HTTP server that fails on command, and the clients that call it."""

import asyncio
import contextlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import requests

from heatshield.resilience.attempts import RETRIES
from heatshield.resilience.downstream import DOWNSTREAM

TLS = ssl.create_default_context()  # none is spoken, but making one for each client takes long
REJECTED = {"heatshield-breaker": "b-1", "retry-after": "7"}


class Shop:
    """A real HTTP server that answers with ``status`` and ``headers``, after ``delay_s``."""

    def __init__(self):
        self.status, self.headers, self.delay_s = 200, {}, 0.0
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.seen.append(dict(self.headers.items()))
                time.sleep(outer.delay_s)
                body = json.dumps({"path": self.path}).encode()
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                with contextlib.suppress(OSError):  # the client may be gone
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.peer = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.peer}/owns"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def by_httpx(url, timeout=5.0):
    with httpx.Client(timeout=timeout, verify=TLS) as client:
        return client.get(url)


def by_httpx_async(url, timeout=5.0):
    async def get():
        async with httpx.AsyncClient(timeout=timeout, verify=TLS) as client:
            return await client.get(url)

    return asyncio.run(get())


def by_requests(url, timeout=5.0):
    return requests.get(url, timeout=timeout)


CLIENTS = [by_httpx, by_httpx_async, by_requests]
TIMEOUTS = (httpx.TimeoutException, requests.Timeout)

every_client = pytest.mark.parametrize("get", CLIENTS)


def trip(get, shop, clock, status=500):
    shop.status = status
    for _ in range(10):
        assert get(shop.url).status_code == status
    clock.advance(1)
    assert get(shop.url).status_code == status


def in_real_time():
    DOWNSTREAM.monotonic = RETRIES.monotonic = time.monotonic
