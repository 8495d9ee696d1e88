"""Redraws a view at an interval, like ``top``, until Ctrl-C."""

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from heatshield.cli.errors import ApiError, CollectorUnreachable

__all__ = ["frames", "watch"]


def frames(look: Callable[[], RenderableType]) -> Callable[[], RenderableType]:
    """Wrap ``look`` so that, while the collector is away, it gives the last view and the error.

    The view therefore survives a restart of the collector.
    """
    last: RenderableType = Text("")

    def frame() -> RenderableType:
        nonlocal last
        try:
            last = look()
        except (ApiError, CollectorUnreachable) as error:
            return Group(last, Text(str(error), style="red"))
        return last

    return frame


def watch(
    look: Callable[[], RenderableType],
    interval_s: float,
    console: Console,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Draw ``look()`` every ``interval_s`` seconds; return on Ctrl-C."""
    frame = frames(look)
    try:
        with Live(frame(), console=console, auto_refresh=False, screen=False) as live:
            while True:
                sleep(interval_s)
                live.update(frame(), refresh=True)
    except KeyboardInterrupt:
        return
