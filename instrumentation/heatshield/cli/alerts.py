"""``heatshield alerts``: list the alerts there are."""

import typer

from heatshield.cli.answers import Alerts
from heatshield.cli.options import AsJson, Endpoint, collector

__all__ = ["alerts"]


def alerts(as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List pending and firing alerts, and those that were resolved lately."""
    answer: Alerts = collector(endpoint).get("/api/alerts")
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(answer)
        return
    if not answer["alerts"]:
        typer.echo("no alert is pending or fires")
        return
    from heatshield.cli.record_tables import alert_table

    console().print(alert_table(answer))
