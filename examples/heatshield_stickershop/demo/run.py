"""Runs the platform and its load once in a mode, and records requests and events."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from heatshield_stickershop.demo.events import listen
from heatshield_stickershop.demo.report import Run, evidence_candidates
from heatshield_stickershop.demo.scene import Scene
from heatshield_stickershop.demo.view import View
from heatshield_stickershop.load import LoadSettings, Sent
from heatshield_stickershop.platform import Platform, PlatformSettings

__all__ = ["Acts", "DemoFailed", "play"]

WARM_UP_S: Final = 3.0
"""Seconds in which connections, imports and caches settle; no figure counts them."""

COLD_START_S: Final = 3.0
"""Seconds, in place of the rule's default of 120 s, in which it only alerts."""

HOT_SHARE: Final = 0.5
"""Share of a run's seconds in which the hot user sends."""

FRAME_S: Final = 0.25
LOADS_EVERY_S: Final = 1.0

EVIDENCE_WITHIN_S: Final = 3.0
"""Seconds to wait for the evidence: spans are stored within a second or so."""


class DemoFailed(RuntimeError):  # noqa: N818 - it names what happened
    """The demo ended early; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Acts:
    """The lengths of the parts of one run, in seconds."""

    calm_s: float
    hot_s: float

    @classmethod
    def of(cls, seconds: float) -> "Acts":
        """Divide the seconds of a run; the calm part includes the warm-up."""
        return cls(calm_s=seconds * (1 - HOT_SHARE), hot_s=seconds * HOT_SHARE)


def play(
    mode: str, directory: Path, acts: Acts, seed: int, view: View, connections: int = 4,
    more: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Start the platform, send the whole load, stop the platform.

    Args:
        mode: ``shadow`` or ``protect``.
        directory: a new folder for the stores and logs of this run.
        acts: the lengths of its parts.
        seed: seed of users and arrivals; the same seed gives the same load.
        view: shows the run.
        connections: on which the hot user buys.
        more: fields of :class:`~heatshield_stickershop.load.LoadSettings` that are not as usual.

    Raises:
        DemoFailed: if the load or the collector's events ended early.
        heatshield_stickershop.processes.ChildFailed: if a process died or didn't get ready.
    """
    directory.mkdir(parents=True)
    settings = PlatformSettings(directory, mode, COLD_START_S, seed)
    view.say(f"{mode}: starting redis, a collector and four services")
    with Platform(settings) as platform, view.stage():
        try:
            load = LoadSettings(
                gateway=platform.gateway_url, seed=seed, calm_s=acts.calm_s, hot_s=acts.hot_s,
                **{"connections": connections, **(more or {})},
            )  # fmt: skip
            return asyncio.run(_play(mode, platform, load, view))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group


async def _play(mode: str, platform: Platform, load: LoadSettings, view: View) -> Run:
    async with httpx.AsyncClient(base_url=platform.collector_url, trust_env=False) as collector:
        stage = _Stage(platform, collector, view)
        scene = await stage.watch(mode, load)
        trace_id, elements = await _evidence(collector, evidence_candidates(scene.events))
    return Run(mode, scene.sent, scene.events, scene.measured_from_ns, trace_id, elements)


class _Stage:
    """Runs the load and collects results and events into a scene."""

    def __init__(self, platform: Platform, collector: httpx.AsyncClient, view: View) -> None:
        self._platform = platform
        self._collector = collector
        self._view = view

    async def watch(self, mode: str, settings: LoadSettings) -> Scene:
        """Send the whole load; return the scene at its end."""
        now_ns = time.time_ns()
        scene = Scene(
            mode=mode,
            measured_from_ns=now_ns + round(WARM_UP_S * 1e9),
            ends_ns=now_ns + round(settings.seconds * 1e9),
        )
        listening = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(self._events(scene, listening))]
            await listening.wait()
            watchers += [tasks.create_task(act(scene)) for act in (self._loads, self._frames)]
            await self._load(scene, settings)
            for watcher in watchers:
                watcher.cancel()
        return scene

    async def _load(self, scene: Scene, settings: LoadSettings) -> None:
        async with _running(settings) as process:
            if process.stdout is None:
                raise DemoFailed("the load has no output")
            async for line in process.stdout:
                self._tell(scene, scene.add_sent(Sent.from_line(line)))
            if await process.wait() != 0:
                raise DemoFailed(f"the load ended with status {process.returncode}")

    async def _events(self, scene: Scene, listening: asyncio.Event) -> None:
        async for event in listen(self._collector, listening.set):
            self._tell(scene, scene.add_event(event))
        raise DemoFailed("the collector ended its event stream")

    async def _loads(self, scene: Scene) -> None:
        query: dict[str, str | int] = {"cost": "busy", "window": "1s", "limit": 5}
        while True:
            answer = await self._collector.get("/api/users/hot", params=query)
            if answer.is_success:
                scene.loads = answer.json()["users"]
            await asyncio.sleep(LOADS_EVERY_S)

    async def _frames(self, scene: Scene) -> None:
        while True:
            self._platform.check()
            self._view.show(scene)
            await asyncio.sleep(FRAME_S)

    def _tell(self, scene: Scene, headline: str | None) -> None:
        if headline is not None:
            self._view.show(scene, headline)


@asynccontextmanager
async def _running(settings: LoadSettings) -> AsyncIterator[Process]:
    """Run the load as a process of its own; the end of the block kills it if it still runs."""
    command = [sys.executable, "-m", "heatshield_stickershop.load", *settings.flags()]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, start_new_session=True)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _evidence(
    collector: httpx.AsyncClient, candidates: list[str]
) -> tuple[str | None, int | None]:
    """The first candidate that wrote elements, as the collector linked it, and their number."""
    deadline = time.monotonic() + EVIDENCE_WITHIN_S
    while candidates and time.monotonic() < deadline:
        for trace_id in candidates:
            answer = await collector.get(f"/api/requests/{trace_id}")
            elements = int(answer.json()["cost"]["elements"]) if answer.is_success else 0
            if elements:
                return trace_id, elements
        await asyncio.sleep(FRAME_S)
    return None, None
