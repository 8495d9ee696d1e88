"""``heatshield hot``: show users by load, refreshed like ``top``."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from heatshield.cli.answers import HotUsers
from heatshield.cli.options import REFRESH_S, AsJson, Endpoint, Interval, Own, collector

__all__ = ["hot"]


class CostName(StrEnum):
    """The cost by which users are ranked."""

    BUSY = "busy"
    CALLS = "calls"
    ELEMENTS = "elements"
    CPU = "cpu"
    BACKEND = "backend"
    WAIT = "wait"


class Group(StrEnum):
    """What one row of the table stands for."""

    CALL = "call"
    USER = "user"


class Window(StrEnum):
    """The time over which a load is averaged."""

    SECOND = "1s"
    TEN_SECONDS = "10s"
    MINUTE = "1m"
    FIVE_MINUTES = "5m"


def hot(  # noqa: PLR0913, PLR0917  each is a flag
    once: Annotated[bool, typer.Option("--once", help="Print the table once and exit.")] = False,
    as_json: AsJson = False,
    cost: Annotated[
        CostName, typer.Option(help="Cost to rank by; busy is cpu + backend.")
    ] = CostName.BUSY,
    window: Annotated[
        Window, typer.Option(help="Time to average loads over.")
    ] = Window.TEN_SECONDS,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Users to show.")] = 20,
    by: Annotated[
        Group, typer.Option(help="One row per user and call, or one per user.")
    ] = Group.CALL,
    own: Own = False,
    interval: Interval = REFRESH_S,
    endpoint: Endpoint = None,
) -> None:
    """Show users by load: how many workers each user keeps busy, and with which call.

    --json implies --once, and so does output that is not a terminal.
    """
    source = collector(endpoint)

    def ask() -> HotUsers:
        answer: HotUsers = source.get(
            "/api/users/hot",
            cost=cost.value,
            window=window.value,
            limit=limit,
            by=by.value,
            own="true" if own else None,
        )
        return answer

    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(ask())
        return
    from heatshield.cli.tables import hot_table

    screen = console()
    if once or not sys.stdout.isatty():
        screen.print(hot_table(ask()))
        return
    from heatshield.cli.live import watch

    watch(lambda: hot_table(ask()), interval, screen)
