"""Runs the whole platform as real processes: Redis, a collector and the four services."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import redis

from heatshield_stickershop.processes import Processes, answers_ok, free_port
from heatshield_stickershop.redis_server import redis_server_path
from heatshield_stickershop.seed import seed

__all__ = ["SERVICES", "Platform", "PlatformSettings"]

SERVICES: Final = ("gateway", "talk", "capability", "shop")

HOST: Final = "127.0.0.1"

KEEP_ALIVE_S: Final = 30
"""Seconds. A server must keep idle connections for longer than its clients do (httpx: 5 s), or a
request now and then meets a connection that is just being closed."""


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """Settings of one run of the platform.

    Attributes:
        directory: an existing folder for ``data`` (the collector's store), the shop's database
            and a log per process.
        mode: the collector's mode, ``shadow`` or ``protect``.
        cold_start_s: seconds after the collector's start in which the hot-user rule only alerts.
        seed: seed of the users' stickers.
    """

    directory: Path
    mode: str
    cold_start_s: float
    seed: int

    @property
    def data(self) -> Path:
        """The collector's data directory."""
        return self.directory / "data"


class Platform:
    """The running platform; a context manager that starts its processes on entry.

    Attributes:
        redis_url: address of Redis.
    """

    def __init__(self, settings: PlatformSettings) -> None:
        self._settings = settings
        self._processes = Processes(settings.directory)
        self._urls: dict[str, str] = {}
        self.redis_url = ""

    @property
    def gateway_url(self) -> str:
        """Address of the gateway, for users' requests."""
        return self._urls["gateway"]

    @property
    def collector_url(self) -> str:
        """Address of the collector."""
        return self._urls["collector"]

    def check(self) -> None:
        """Raise ChildFailed if a process has ended."""
        self._processes.check()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._processes.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._processes.stop()

    def _start(self) -> None:
        names = (*SERVICES, "collector")
        self._urls = {name: f"http://{HOST}:{free_port()}" for name in names}
        self.redis_url = self._start_redis()
        database = self._settings.directory / "shop.sqlite"
        seed(database, self.redis_url, self._settings.seed)
        self._start_collector()
        env = {
            **_inherited(),
            "HEATSHIELD_ENDPOINT": self.collector_url,
            "STICKERSHOP_REDIS_URL": self.redis_url,
            "STICKERSHOP_DATABASE": str(database),
            **{f"STICKERSHOP_{name.upper()}_URL": self._urls[name] for name in SERVICES},
        }
        self._start_services(env)

    def _start_redis(self) -> str:
        port = free_port()
        command = [redis_server_path(), "--port", str(port), "--bind", HOST]
        without_disk = ["--save", "", "--appendonly", "no"]
        child = self._processes.start("redis", [*command, *without_disk], _inherited())
        url = f"redis://{HOST}:{port}/0"
        self._processes.wait_ready(child, lambda: _redis_answers(url))
        return url

    def _start_collector(self) -> None:
        env = {
            **_inherited(),
            "HEATSHIELD_COLLECTOR_MODE": self._settings.mode,
            "HEATSHIELD_COLLECTOR_COLD_START_S": str(self._settings.cold_start_s),
        }
        address = self.collector_url.removeprefix("http://")
        flags = ["--data", str(self._settings.data), "--http", address, "--grpc", "off"]
        program = "from heatshield.cli import main; main()"
        child = self._processes.start(
            "collector", [sys.executable, "-c", program, "up", *flags], env
        )
        self._processes.wait_ready(child, answers_ok(f"{self.collector_url}/readyz"))

    def _start_services(self, env: Mapping[str, str]) -> None:
        children = {name: self._processes.start(name, self._serve(name), env) for name in SERVICES}
        for name, child in children.items():
            self._processes.wait_ready(child, answers_ok(f"{self._urls[name]}/healthz"))

    def _serve(self, service: str) -> list[str]:
        host, _, port = self._urls[service].removeprefix("http://").partition(":")
        app = f"heatshield_stickershop.{service}:create_app"
        address = ["--host", host, "--port", port]
        quiet = ["--log-level", "warning", "--no-access-log"]
        patient = ["--timeout-keep-alive", str(KEEP_ALIVE_S)]
        return [sys.executable, "-m", "uvicorn", "--factory", app, *address, *quiet, *patient]


def _inherited() -> dict[str, str]:
    """This process' environment without heatshield settings: the run brings its own."""
    return {key: text for key, text in os.environ.items() if not key.startswith("HEATSHIELD_")}


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.exceptions.RedisError:
        return False
