"""What a collector that accepts connections and never answers costs a service: memory, no more.

Two processes of the service of ``variant.py``, bare and with heatshield, are each asked 1,000 times
a second for ten minutes. heatshield's endpoint is a socket that listens and is never read.
Memory is what the second takes more than the first, at its worst.
"""

import socket
import subprocess
import sys
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

import figures
from collector_process import HOST, clean_environment
from figures import Report, Target, quantile

__all__ = ["run"]

MEMORY: Final = Target("at most", 32.0)

RATE: Final = 1_000
"""Requests a second."""

SECONDS: Final = 600
QUICK_SECONDS: Final = 40
WARM_S: Final = 5
"""Seconds after which what is imported late has been imported."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one process said and took."""

    rss_mib: list[float]
    p50_us: float
    p99_us: float
    served: int


def run(*, quick: bool = False) -> Report:
    """Measure."""
    report = Report("blackhole", "a collector that never answers, at 1,000 requests a second")
    seconds = QUICK_SECONDS if quick else SECONDS
    with socket.socket() as hole:
        hole.bind((HOST, 0))
        hole.listen(1)
        endpoint = f"http://{HOST}:{hole.getsockname()[1]}"
        bare, ours = _ask_both(endpoint, seconds)
    more = [mine - theirs for mine, theirs in zip(ours.rss_mib, bare.rss_mib, strict=False)]
    report.add("memory added, at most", max(more), "MiB", MEMORY)
    report.add("memory added, in the end", more[-1], "MiB", MEMORY)
    report.add("a bare request, p50", bare.p50_us, "µs")
    report.add("a request with heatshield, p50", ours.p50_us, "µs")
    report.add("a bare request, p99", bare.p99_us, "µs")
    report.add("a request with heatshield, p99", ours.p99_us, "µs")
    report.add("requests served with heatshield", ours.served, "")
    report.notes.append(f"{seconds} s; each request makes a server span and a log record.")
    return report


def _ask_both(endpoint: str, seconds: int) -> tuple[_Asked, _Asked]:
    """Both at once, so that what else the machine does hits both."""
    children = [
        subprocess.Popen(
            [sys.executable, __file__, name, endpoint, str(seconds)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("bare", "heatshield")
    ]
    watched = [psutil.Process(child.pid) for child in children]
    memory: list[list[float]] = [[], []]
    time.sleep(WARM_S)
    while all(child.poll() is None for child in children):
        for found, process in zip(memory, watched, strict=True):
            try:
                found.append(process.memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                break
        time.sleep(0.5)
    asked = []
    for child, found in zip(children, memory, strict=True):
        assert child.stdout is not None
        p50_us, p99_us, served = child.stdout.read().split()
        child.wait()
        asked.append(_Asked(found[:-1], float(p50_us), float(p99_us), int(served)))
    return asked[0], asked[1]


def _serve(name: str, endpoint: str, seconds: int) -> None:
    """In a child: serve at the given rate, then say quantiles and how many."""
    import asyncio
    import logging
    import os

    from fastapi import FastAPI

    import variant

    logging.basicConfig(stream=Path(os.devnull).open("w"), level=logging.INFO)  # noqa: SIM115
    app, log = FastAPI(), logging.getLogger("shop")

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        log.info("item %d", item)
        return {"item": item}

    variant.VARIANTS[name](app, endpoint, "")

    async def serve() -> "array[float]":
        took, began = array("f"), time.monotonic()  # small: it is not what is measured
        while (now := time.monotonic()) < began + seconds:
            while len(took) < (now - began) * RATE:
                at = time.perf_counter_ns()
                await variant.request(app, variant.PATHS["plain"])
                took.append((time.perf_counter_ns() - at) / 1e3)
            await asyncio.sleep(0.005)
        return took

    took = asyncio.run(serve())
    print(quantile(took, 0.5), quantile(took, 0.99), len(took), flush=True)
    os._exit(0)  # what is queued would reach no one


if __name__ == "__main__":
    if len(sys.argv) == 4:
        _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        figures.main(run)
