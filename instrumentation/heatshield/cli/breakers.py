"""``heatshield breakers``: list the breaker entries that the collector holds."""

from typing import Annotated

import typer

from heatshield.cli.options import REFRESH_S, AsJson, Endpoint, Interval, collector
from heatshield.names import BREAKERS_PATH

__all__ = ["breakers"]


def breakers(
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    interval: Interval = REFRESH_S,
    endpoint: Endpoint = None,
) -> None:
    """List the held breakers: the user and call that each cuts, its issuer and its reason."""
    source = collector(endpoint)
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(source.get(BREAKERS_PATH))
        return
    from heatshield.cli.tables import breaker_table

    screen = console()
    if not watch:
        screen.print(breaker_table(source.get(BREAKERS_PATH)))
        return
    from heatshield.cli import live

    live.watch(lambda: breaker_table(source.get(BREAKERS_PATH)), interval, screen)
