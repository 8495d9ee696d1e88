"""``heatshield metrics``: show the newest sample of each series that services sent."""

from typing import Annotated

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson, Endpoint, collector

__all__ = ["metrics"]


def metrics(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of one metric; default: list all.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Only metrics of this service.")
    ] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Show the metrics that services sent in the last five minutes, or the series of one."""
    answer = collector(endpoint).get("/api/metrics", name=name, service=service, limit=10_000)
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(answer)
        return
    from heatshield.cli.metric_tables import metric_table, series_table

    if not answer["metrics"]:
        whose = f" of {service}" if service else ""
        what = f"{name}{whose}" if name else f"metric{whose}"
        raise CliError(f"no {what} arrived in the last five minutes")
    console().print(metric_table(answer) if name is None else series_table(answer))
