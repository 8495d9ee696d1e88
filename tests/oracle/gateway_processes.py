"""Debian's nginx and haproxy, configured as docs/gateways.md has it, and a service behind them."""

import http.client
import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from heatshield_stickershop.processes import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "gateways.md").read_text(encoding="utf-8")
TOKEN = "of-all-callers"  # noqa: S105
STARTS_S = 20.0


def needs(program):
    """The program's path; skips the test where it is not installed, but never in CI."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", f"{program} has to be installed in CI"
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    return found


def block(language, number=0):
    """An example of the page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


@dataclass
class Service:
    """A service that knows nothing of heatshield.

    Attributes:
        seen: (method, path, user, body) of each request that reached it.
        status: what it answers.
    """

    port: int = 0
    status: int = 200
    seen: list[tuple[str, str, str, bytes]] = field(default_factory=list)


@contextmanager
def plain_service():
    """Runs such a service on loopback."""
    served = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            served.seen.append((self.command, self.path, self.headers.get("x-user-id"), body))
            self.send_response(served.status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = answer  # noqa: N815  # the library's names

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # gateways that are killed reset their connections
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(command, port):
    """A gateway that listens, ended on the way out."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + STARTS_S
        while True:
            try:
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
                break
            except OSError:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < until, "the gateway does not listen"
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def placed(text, port, service, collector_port, further=0):
    """An example of the page with the addresses of this test."""
    for said, here in (
        ("127.0.0.1:8001", f"127.0.0.1:{further}"),
        ("127.0.0.1:8000", f"127.0.0.1:{port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{service.port}"),
        ("127.0.0.1:4318", f"127.0.0.1:{collector_port}"),
        ('TOKEN"', f'{TOKEN}"'),
    ):
        text = text.replace(said, here)
    return text


def nginx(folder, service, collector_port):
    program, port = needs("nginx"), free_port()
    bodies = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    http_block = placed(block("nginx"), port, service, collector_port)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{bodies}{http_block}}}\n"
    )
    return running([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], port)


def haproxy(folder, service, collector_port):
    program, port, further = needs("haproxy"), free_port(), free_port()
    script = folder / "heatshield.lua"
    script.write_text(placed(block("lua"), port, service, collector_port, further))
    text = block("haproxy").replace("/etc/haproxy/heatshield.lua", str(script))
    (folder / "haproxy.cfg").write_text(placed(text, port, service, collector_port, further))
    return running([program, "-db", "-f", str(folder / "haproxy.cfg")], port)


def lenient_haproxy(folder, service, collector_port):
    """The page's haproxy that answers for a collector that does not."""
    program, port = needs("haproxy"), free_port()
    text = placed(block("haproxy", 1), 0, service, collector_port, port)
    (folder / "haproxy.cfg").write_text(text)
    return running([program, "-db", "-f", str(folder / "haproxy.cfg")], port)
