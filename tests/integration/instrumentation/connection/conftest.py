"""Servers and connections of one test, closed after it."""

import shutil
import socket
import ssl
import subprocess

import pytest
from collector_sockets import TIMEOUT_S, Server

from heatshield.clock import SystemClock
from heatshield.export.connection import Connection


@pytest.fixture
def serve():
    servers = []

    def start(*scripts, tls=None):
        servers.append(Server(*scripts, tls=tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect():
    made = []

    def to(endpoint, timeout_s=TIMEOUT_S, clock=None):
        made.append(Connection(endpoint, timeout_s, clock or SystemClock()))
        return made[-1]

    yield to
    for connection in made:
        connection.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and certificates of it for ``localhost`` and for another host."""
    openssl, folder = shutil.which("openssl"), tmp_path_factory.mktemp("tls")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates with")

    def run(*arguments):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    for host in ("localhost", "elsewhere"):
        (folder / "names").write_text(f"subjectAltName=DNS:{host}", encoding="ascii")
        run("req", *key, "-keyout", f"{host}.key", "-out", f"{host}.csr", "-subj", f"/CN={host}")
        run(
            "x509", "-req", "-in", f"{host}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "names", "-out", f"{host}.pem",
        )  # fmt: skip
    return folder


@pytest.fixture
def tls(certificates, monkeypatch):
    """A server's context; the client trusts the authority that ``SSL_CERT_FILE`` names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))

    def of(host):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / f"{host}.pem", certificates / f"{host}.key")
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    return of


@pytest.fixture
def wake():
    waker, wake = socket.socketpair()
    with waker, wake:
        yield waker, wake


@pytest.fixture
def listen(connect):
    streams = []

    def to(server, timeout_s=5.0, clock=None):
        streams.append(connect(server.endpoint, timeout_s, clock).open_stream("/s", headers={}))
        return streams[-1]

    yield to
    for stream in streams:
        stream.close()
