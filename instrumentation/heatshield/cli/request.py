"""``heatshield request TRACE_ID``: one request as everything that shares its trace id."""

from typing import Annotated

import typer

from heatshield.cli.client import path_of
from heatshield.cli.options import AsJson, Endpoint, collector

__all__ = ["request"]


def request(
    trace_id: Annotated[str, typer.Argument(help="Trace id, 32 hex digits.")],
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show a linked request: its spans as a waterfall, logs in place, user and cost."""
    found = collector(endpoint).get(path_of("api", "requests", trace_id))
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(found)
        return
    from heatshield.cli.waterfall import request_view

    console().print(request_view(found))
