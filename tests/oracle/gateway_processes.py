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
    ports = {"8000": port, "8001": further, "8080": service.port, "4318": collector_port}
    # In one go, or else a port that begins as another one's does would be replaced again.
    text = re.sub(
        r"(?<=127\.0\.0\.1:)(8000|8001|8080|4318)\b", lambda found: str(ports[found[1]]), text
    )
    return text.replace('TOKEN"', f'{TOKEN}"')


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
