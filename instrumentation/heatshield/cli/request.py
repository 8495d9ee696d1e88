"""``heatshield request TRACE_ID``: show everything that shares one trace id."""

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
    """Show one request: its user and cost, its spans as a waterfall, and its logs among them."""
    found = collector(endpoint).get(path_of("api", "requests", trace_id))
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(found)
        return
    from heatshield.cli.waterfall import request_view

    console().print(request_view(found))
