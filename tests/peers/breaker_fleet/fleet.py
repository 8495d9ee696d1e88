"""The clients as a test or a benchmark has them: child processes that do what they are told."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from breaker_fleet.records import Record, read

__all__ = ["SERVICE", "Fleet"]

SERVICE: Final = "fleet"
PROGRAM: Final = Path(__file__).with_name("client.py")
STARTS_WITHIN_S: Final = 60.0


class Fleet:
    """Clients of one collector; a context manager that ends them.

    Args:
        folder: an existing one, for their logs and kill switches.
        endpoints: of the collector, or of what is in front of it; one for each client.
        environment: of the children.
    """

    def __init__(
        self, folder: Path, endpoints: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._clients: list[subprocess.Popen[str]] = []
        for number, endpoint in enumerate(endpoints):
            arguments = [endpoint, f"client-{number}", str(self.log(number))]
            switch = {"HEATSHIELD_KILL_SWITCH_FILE": str(self.kill_switch(number))}
            self._clients.append(
                subprocess.Popen(
                    [sys.executable, "-P", str(PROGRAM), *arguments],
                    env={**environment, **switch},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def all(self) -> range:
        """The numbers of all clients."""
        return range(len(self))

    def log(self, number: int) -> Path:
        """Where a client writes."""
        return self._folder / f"client-{number}.jsonl"

    def kill_switch(self, number: int) -> Path:
        """The file that throws a client's kill switch."""
        return self._folder / f"client-{number}.off"

    def wait_ready(self) -> None:
        """Wait until all have begun."""
        end = threading.Timer(STARTS_WITHIN_S, self.close)  # readers then get nothing
        end.start()
        for number in self.all:
            self._answer(number, "ready")
        end.cancel()

    def tell(self, numbers: Iterable[int], **command: Any) -> None:
        """Give these clients a command, and wait until they have it."""
        told = list(numbers)
        for number in told:
            pipe = self._clients[number].stdin
            assert pipe is not None
            pipe.write(json.dumps(command) + "\n")
            pipe.flush()
        for number in told:
            self._answer(number, "done")

    def _answer(self, number: int, expected: str) -> None:
        pipe = self._clients[number].stdout
        assert pipe is not None
        line = pipe.readline()
        if line.strip() != expected:
            raise ChildProcessError(f"client {number} says {line!r}")

    def pause(self, numbers: Iterable[int]) -> None:
        """Stop these clients where they are."""
        for number in numbers:
            os.kill(self._clients[number].pid, signal.SIGSTOP)

    def resume(self, numbers: Iterable[int]) -> None:
        """Have these clients go on."""
        for number in numbers:
            os.kill(self._clients[number].pid, signal.SIGCONT)

    def records(self, since_s: float = float("-inf")) -> list[list[Record]]:
        """What each client has written from that monotonic second on."""
        return [read(self.log(number), since_s) for number in self.all]

    def close(self) -> None:
        """End all."""
        for client in self._clients:
            client.kill()
        for client in self._clients:
            client.wait()
            for pipe in (client.stdin, client.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
