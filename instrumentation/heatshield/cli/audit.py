"""``heatshield audit``: list what was done with breakers, by whom and why."""

import typer

from heatshield.cli.answers import Audit
from heatshield.cli.options import AsJson, Endpoint, Limit, collector

__all__ = ["audit"]


def audit(limit: Limit = 50, as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List every change of a breaker and of the mode, and every refusal, newest first."""
    answer: Audit = collector(endpoint).get("/api/audit", limit=limit)
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(answer)
        return
    if not answer["changes"]:
        typer.echo("nothing was done with breakers yet")
        return
    from heatshield.cli.record_tables import audit_table

    console().print(audit_table(answer))
