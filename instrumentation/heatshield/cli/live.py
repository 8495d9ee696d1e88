"""A view that is drawn again and again, like ``top``, until it is interrupted."""

import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from heatshield.cli.errors import ApiError, CollectorUnreachable

__all__ = ["frames", "watch"]


def frames(look: Callable[[], RenderableType]) -> Callable[[], RenderableType]:
    """Make each call of ``look`` a frame; while the collector is away, the last one and why.

    A collector that restarts interrupts nobody who is watching.
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
    """Draw ``look()`` every ``interval_s`` seconds until Ctrl-C, which ends it without a fuss."""
    frame = frames(look)
    try:
        with Live(frame(), console=console, auto_refresh=False, screen=False) as live:
            while True:
                sleep(interval_s)
                live.update(frame(), refresh=True)
    except KeyboardInterrupt:
        return
