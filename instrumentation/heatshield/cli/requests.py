"""``heatshield requests``: search requests; the way to a first trace id."""

import re
from typing import Annotated, Final

import typer

from heatshield.cli.answers import Requests
from heatshield.cli.known import as_sent
from heatshield.cli.options import AsJson, Endpoint, Limit, Own, collector

__all__ = ["age_s", "requests"]

UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
AGE: Final = re.compile(r"([0-9]+)([smhd])")

LONGEST_D: Final = 366
"""Days that a search may reach back."""


def age_s(text: str) -> int:
    """Parse an age such as ``90s``, ``15m``, ``6h`` or ``3d`` to seconds.

    Raises:
        typer.BadParameter: if the text is not an age, or not in (0, 366 d].
    """
    match = AGE.fullmatch(text.strip())
    value_s = int(match[1]) * UNITS_S[match[2]] if match else 0
    if not 0 < value_s <= LONGEST_D * UNITS_S["d"]:
        raise typer.BadParameter(f"{text!r} is not an age: use 90s, 15m, 6h or 3d")
    return value_s


def requests(  # noqa: PLR0913, PLR0917  each is a flag
    user: Annotated[str | None, typer.Option("--user", help="Only requests of this user.")] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Only requests that this service took part in.")
    ] = None,
    call: Annotated[
        str | None, typer.Option("--call", help="Only requests with a span of this name.")
    ] = None,
    errors: Annotated[
        bool | None,
        typer.Option("--errors/--no-errors", help="Only requests with an error, or without."),
    ] = None,
    min_ms: Annotated[
        float | None, typer.Option("--min-ms", min=0, help="Only requests that took this long.")
    ] = None,
    since: Annotated[
        str, typer.Option("--since", help="How far back, such as 15m, 6h or 3d.")
    ] = "1h",
    limit: Limit = 20,
    own: Own = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Search requests, newest first; `heatshield request TRACE_ID` shows one."""
    answer: Requests = collector(endpoint).get(
        "/api/requests",
        user=user and as_sent(user),
        service=service,
        call=call,
        errors=None if errors is None else str(errors).lower(),
        min_duration_ms=None if min_ms is None else f"{min_ms:g}",
        since_s=age_s(since),
        limit=limit,
        own="true" if own else None,
    )
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(answer)
        return
    if not answer["requests"]:
        typer.echo(f"no such request began within {since}")
        return
    from heatshield.cli.record_tables import request_table

    console().print(request_table(answer))
