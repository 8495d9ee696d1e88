"""Shows the demo: as a live screen on a terminal, as plain lines elsewhere."""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from heatshield.cli.terminal import text
from heatshield_stickershop.demo.report import Expectation
from heatshield_stickershop.demo.scene import Scene, told

__all__ = ["LiveView", "PlainView", "View", "figure_table", "result_table", "verdicts", "view_for"]

PLAIN_EVERY_S: Final = 3.0
"""Seconds between two plain lines, to keep logs short."""

TOP_USERS: Final = 5


class View(Protocol):
    """Output of the demo."""

    def stage(self) -> AbstractContextManager[object]:
        """Return a context manager that is open while one run is shown."""
        ...

    def say(self, line: str) -> None:
        """Print a line that stays on the screen."""
        ...

    def show(self, scene: Scene, headline: str | None = None) -> None:
        """Show the state of the run, and the latest headline, if there is one."""
        ...


def view_for(console: Console) -> View:
    """Return a live screen if the console is a terminal, else plain lines."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class LiveView:
    """A screen that is redrawn at each change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def stage(self) -> AbstractContextManager[object]:
        """Return a context manager that shows the screen and removes it at the end."""
        return self._live

    def say(self, line: str) -> None:
        """Print a line above the screen."""
        self._console.print(text(line))

    def show(self, scene: Scene, headline: str | None = None) -> None:
        """Redraw the screen; it has a list of headlines."""
        if headline is None:
            self._live.update(render(scene, time.time_ns()), refresh=True)


class PlainView:
    """A line every few seconds, and one for each headline."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_line = 0.0

    def stage(self) -> AbstractContextManager[object]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(text(line), soft_wrap=True)

    def show(self, scene: Scene, headline: str | None = None) -> None:
        """Print the headline, or, every few seconds, the state of the run."""
        if headline is not None:
            self.say(f"  [{scene.mode}] {headline}")
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY_S
            self.say(f"  [{scene.mode}] {_others(scene, time.time_ns())}")


def render(scene: Scene, now_ns: int) -> RenderableType:
    """Render the live screen."""
    left_s = max(0.0, (scene.ends_ns - now_ns) / 1e9)
    title = f"{scene.mode}: {scene.stage(now_ns)}, {left_s:.0f} s to go"
    headlines = Group(*(text(line) for line in scene.headlines))
    return Panel(
        Group(text(_others(scene, now_ns), "bold"), _loads(scene), _held(scene), headlines),
        title=text(title),
        border_style="green" if scene.mode == "protect" else "yellow",
    )


def result_table(report: dict[str, dict[str, Any]]) -> Table:
    """Render the table at the end."""
    table = Table(title="One user with 20,000 stickers, and all others")
    table.add_column("")
    for mode in ("shadow", "protect"):
        table.add_column(mode, justify="right")
    for label, key, unit in ROWS:
        cells = [_cell(report[mode].get(key), unit) for mode in ("shadow", "protect")]
        table.add_row(label, *cells)
    return table


def figure_table(found: Mapping[str, Any]) -> Table:
    """Render the figures of one scene."""
    table = Table(show_header=False)
    for name, value in found.items():
        said = ", ".join(map(str, value)) if isinstance(value, list) else value
        table.add_row(name.replace("_", " "), "-" if said is None else f"{said}")
    return table


ROWS: Final = (
    ("others' p99 before", "others_p99_ms_before", "ms"),
    ("others' p99 during", "others_p99_ms_during", "ms"),
    ("others' p99 after enforcement", "others_p99_ms_after_enforcement", "ms"),
    ("others' errors during", "others_error_rate_during", "%"),
    ("detected after", "detected_after_s", "s"),
    ("slowed everywhere after", "enforced_everywhere_after_s", "s"),
    ("refused after", "refused_after_s", "s"),
    ("others recovered after", "recovered_after_s", "s"),
    ("hot user's requests let through while paced", "hot_user_paced_through", ""),
    ("hot user's requests told to wait (429)", "hot_user_told_to_wait", ""),
    ("hot user's requests rejected", "hot_user_rejected", ""),
    ("others' requests rejected", "others_rejected", ""),
)
"""Label, key of the report and unit of each row."""


def verdicts(checked: Iterable[Expectation], *, is_noisy: bool = False) -> RenderableType:
    """Render one line per expectation: whether it was met, and the measured value.

    Args:
        checked: the expectations.
        is_noisy: whether the machine did so much else that latencies are no verdict.
    """
    lines = []
    for one in checked:
        mark, style = ("met    ", "green") if one.met else ("NOT MET", "bold red")
        if not one.met and one.is_latency and is_noisy:
            mark, style = "unclear", "yellow"
        found = "not seen" if one.found is None else f"{one.found:g}"
        lines.append(Text.assemble((mark, style), f"  {one.text}: {found}"))
    return Group(*lines)


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.1%}"
    if unit == "":
        return f"{value}"
    return f"{value:.1f} {unit}" if unit == "ms" else f"{value:.2f} {unit}"


def _others(scene: Scene, now_ns: int) -> str:
    recent = scene.recent(now_ns)
    p50, p99 = (_cell(value, "ms") for value in (recent.p50_ms, recent.p99_ms))
    return (
        f"others: p50 {p50}, p99 {p99}, {recent.errors} errors in {recent.requests} "
        f"requests of the last 2 s ({scene.stage(now_ns)})"
    )


def _loads(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("user", "service", "call", "load 1s", "share"):
        table.add_column(column, justify="right" if column in ("load 1s", "share") else "left")
    for row in scene.loads[:TOP_USERS]:
        style = "bold red" if row.get("class") == "hot" else ""
        named = [text(row.get(name), style) for name in ("user", "service", "call")]
        table.add_row(*named, f"{row['load']:.2f}", f"{row['share']:.0%}")
    return table


def _held(scene: Scene) -> RenderableType:
    firing = [
        f"alert {alert['name']} {alert['state']} {alert.get('labels', {}).get('user', '')}"
        for alert in scene.alerts.values()
        if alert["state"] in ("pending", "firing")
    ]
    held = [
        f"breaker {entry['state']}: {told(entry, entry['state'], scene.mode)}"
        for entry in scene.breakers.values()
    ]
    return Group(*(text(line, "red") for line in (*firing, *held)))
