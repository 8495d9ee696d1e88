"""``heatshield mode``: show or switch whether breakers are enforced."""

import math
from typing import Annotated

import typer

from heatshield.cli.answers import Mode
from heatshield.cli.options import AsJson, Endpoint, Token, collector, operator
from heatshield.contract import PlatformMode

__all__ = ["mode"]

MEANING = {
    PlatformMode.SHADOW: "breakers are decided and recorded, but nothing is enforced",
    PlatformMode.PROTECT: "breakers are enforced",
}


def mode(
    wanted: Annotated[
        PlatformMode | None, typer.Argument(metavar="[shadow|protect]", help="Mode to switch to.")
    ] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
    token: Token = None,
) -> None:
    """Show the mode of the platform, or switch it."""
    source = collector(endpoint, token, changes=wanted is not None)
    answer: Mode = (
        source.get("/api/mode")
        if wanted is None
        else source.put("/api/mode", {"mode": wanted.value, "by": operator()})
    )
    if as_json:
        from heatshield.cli.terminal import print_json

        print_json(answer)
        return
    now = PlatformMode(answer["mode"])
    typer.echo(f"{now.value}: {MEANING[now]}")
    left_s = answer.get("cold_start_left_s", 0.0)
    if left_s:
        typer.echo(f"cold start: rules trip no breaker for another {math.ceil(left_s)} s")
