"""Starts child processes, waits until they are ready, checks that they live, and always ends them.

Each child leads its own process group, so that ending it ends its own children too. The error of a
child that dies or does not get ready has the last lines of the child's log.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

__all__ = ["Child", "ChildFailed", "Processes", "answers_ok", "free_port"]

READY_WITHIN_S: Final = 30.0
"""A busy two-core machine imports a service in seconds; beyond this something is wrong."""

POLL_S: Final = 0.05
STOP_WITHIN_S: Final = 8.0
"""From SIGTERM to SIGKILL: time to flush telemetry and to commit."""

LOG_TAIL_LINES: Final = 15


class ChildFailed(RuntimeError):  # noqa: N818 - it names what happened
    """A child process died or did not get ready; the message names it and ends with its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process and the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines that it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (no output)"


class Processes:
    """The children of one run; a context manager that ends them all, youngest first.

    Args:
        logs: an existing folder; each child's output goes to ``<name>.log`` in it.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Child:
        """Start a child with exactly this environment, in the folder of the logs."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the commands are the demo's own
                command,
                env=dict(env),
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def wait_ready(
        self, child: Child, ready: Callable[[], bool], within_s: float = READY_WITHIN_S
    ) -> None:
        """Poll until the child is ready.

        Raises:
            ChildFailed: if it ends first, or the time is over.
        """
        deadline = time.monotonic() + within_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ChildFailed(f"{child.name} was not ready in {within_s:g} s:\n{child.tail()}")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Check that all children live.

        Raises:
            ChildFailed: if one has ended.
        """
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                raise ChildFailed(f"{child.name} ended with status {status}:\n{child.tail()}")

    def stop(self) -> None:
        """End all children, youngest first: by SIGTERM, and by SIGKILL when the time is over."""
        for child in reversed(self._children):
            _signal_group(child, signal.SIGTERM)
            try:
                child.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _signal_group(child, signal.SIGKILL)
                child.process.wait()
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def free_port() -> int:
    """A loopback port that no process listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers_ok(url: str) -> Callable[[], bool]:
    """Make a readiness check: a GET of the address answers 200."""

    def ready() -> bool:
        try:
            return httpx.get(url, timeout=1.0, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    return ready


def _signal_group(child: Child, number: signal.Signals) -> None:
    try:
        os.killpg(child.process.pid, number)
    except ProcessLookupError:
        return
