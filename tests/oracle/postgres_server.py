"""A real PostgreSQL of one's own on loopback, from Debian's package, in a temporary directory."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

UNPRIVILEGED = ("postgres", "nobody")
"""Users to run it as: PostgreSQL refuses to run as root."""


def programs():
    """Where ``initdb`` and ``postgres`` are, or ``None``."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists()), None)


def _other_user():
    """Arguments of :class:`subprocess.Popen` that drop root's privileges, where one has them."""
    if os.geteuid() != 0:
        return {}
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError(f"none of the users {UNPRIVILEGED} exists")


class PostgresServer:
    """Listens on an ephemeral port of 127.0.0.1; anybody may log in as ``shop``."""

    user = database = "shop"

    def __init__(self, binaries):
        self._directory = Path(tempfile.mkdtemp(prefix="heatshield-postgres-"))
        self._as = _other_user()
        if self._as:
            os.chown(self._directory, self._as["user"], self._as["group"])
        data = self._directory / "data"
        self._run(
            binaries / "initdb", "--pgdata", data, "--username", self.user, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "fsync": "off", "max_connections": 40, "shared_buffers": "16MB",
        }  # fmt: skip
        self._log = (self._directory / "log").open("wb")
        self._process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *(f"--{k}={v}" for k, v in options.items())],
            stdout=self._log, stderr=self._log, cwd=self._directory, **self._as,
        )  # fmt: skip
        self._until_ready()
        self._create_database(binaries)

    @property
    def url(self):
        """As libpq and asyncpg take it."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{self.database}"

    def url_of(self, driver):
        """As SQLAlchemy takes it."""
        return self.url.replace("postgresql:", f"postgresql+{driver}:")

    def _run(self, *command):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60,
            cwd=self._directory, **self._as,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")

    def _until_ready(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        self.close()
        raise RuntimeError("PostgreSQL did not start")

    def _create_database(self, binaries):
        deadline = time.monotonic() + 30
        while True:  # it accepts connections before it is ready to serve them
            try:
                self._run(
                    binaries / "createdb", "--host", "127.0.0.1", "--port", str(self.port),
                    "--username", self.user, self.database,
                )  # fmt: skip
            except RuntimeError:
                if time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.05)
            else:
                return

    def close(self):
        """Stop it and remove all its files."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nothing is kept
            self._process.wait(20)
        self._log.close()
        shutil.rmtree(self._directory, ignore_errors=True)
