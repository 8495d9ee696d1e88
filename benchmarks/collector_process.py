"""A real collector in a process of its own, on an empty store in a temporary folder."""

import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import duckdb
import psutil

from heatshield.names import COLLECTOR_SERVICE
from heatshield_collector.store.duckdb.database import FILE_NAME
from heatshield_stickershop.processes import Child, Processes, answers_ok, free_port

__all__ = ["HOST", "RealCollector", "clean_environment"]

HOST: Final = "127.0.0.1"
_PROGRAM: Final = "from heatshield.cli import main; main()"


class RealCollector:
    """``heatshield up`` without gRPC; a context manager that ends it and removes its folder.

    Args:
        flags: further flags of ``heatshield up``.

    Attributes:
        url: where it answers.
        processes: further children may be started here; they end with it.
    """

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self._folder = tempfile.TemporaryDirectory(prefix="heatshield-bench-")
        self.processes = Processes(Path(self._folder.name))
        self.url = ""
        self._child: Child | None = None

    @property
    def store(self) -> Path:
        """The store's file."""
        return Path(self._folder.name) / "data" / FILE_NAME

    @property
    def process(self) -> psutil.Process:
        """The running process."""
        assert self._child is not None
        return psutil.Process(self._child.process.pid)

    def __enter__(self) -> Self:
        address = f"{HOST}:{free_port()}"
        self.url = f"http://{address}"
        command = [sys.executable, "-c", _PROGRAM, "up", "--http", address, "--grpc", "off"]
        data = ["--data", str(self.store.parent)]
        try:
            self._child = self.processes.start(
                "collector", [*command, *data, *self._flags], clean_environment()
            )
            self.processes.wait_ready(self._child, answers_ok(f"{self.url}/readyz"))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def log_tail(self) -> str:
        """The last lines that it printed."""
        assert self._child is not None
        return self._child.tail()

    def cpu_s(self) -> float:
        """Processor seconds it has used, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        """Stop it as an operator would; its store stays until the end of the context."""
        assert self._child is not None
        self._child.process.terminate()
        self._child.process.wait(60)

    def stored_spans(self) -> int:
        """Spans in the store once it has ended, without those of the collector's own requests."""
        count = "SELECT count(*) FROM spans WHERE service <> ?"
        with duckdb.connect(str(self.store), read_only=True) as database:
            found = database.execute(count, [COLLECTOR_SERVICE]).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """End every child and remove the folder."""
        self.processes.stop()
        self._folder.cleanup()


def clean_environment(**more: str) -> dict[str, str]:
    """This process' environment without settings of heatshield and OpenTelemetry, and ``more``."""
    strange = ("HEATSHIELD_", "OTEL_")
    return {key: text for key, text in os.environ.items() if not key.startswith(strange)} | more
