"""``heatshield findings``: list what the detectors said."""

import typer

from heatshield.cli.answers import Findings
from heatshield.cli.options import AsJson, Endpoint, Limit, collector

__all__ = ["findings"]


def findings(limit: Limit = 50, as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List what the detectors found: users that are hot or heavy on a call, newest first."""
    answer: Findings = collector(endpoint).get("/api/findings", limit=limit)
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(answer)
        return
    if not answer["findings"]:
        typer.echo("no detector has found a user yet")
        return
    from heatshield.cli.record_tables import finding_table

    console().print(finding_table(answer))
