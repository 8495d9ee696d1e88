"""``heatshield findings``: show what the detectors found, refreshed like ``top``."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from heatshield.cli.answers import Findings
from heatshield.cli.known import as_sent
from heatshield.cli.options import REFRESH_S, AsJson, Endpoint, Interval, Limit, collector

__all__ = ["findings"]


class FindingClass(StrEnum):
    """What a finding means."""

    HARMFUL = "harmful"
    BUDGET = "budget"
    HOT = "hot"
    HEAVY = "heavy"
    OVERLOAD = "overload"


def findings(  # noqa: PLR0913, PLR0917  each is a flag
    once: Annotated[bool, typer.Option("--once", help="Print the table once and exit.")] = False,
    as_json: AsJson = False,
    klass: Annotated[
        FindingClass | None, typer.Option("--class", help="Only findings of this class.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only findings of this user.")] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Only findings about this service.")
    ] = None,
    is_open: Annotated[
        bool | None,
        typer.Option("--open/--closed", help="Only findings that are open, or that are over."),
    ] = None,
    limit: Limit = 50,
    interval: Interval = REFRESH_S,
    endpoint: Endpoint = None,
) -> None:
    """Show what the detectors found, newest first: who burns what, who suffers for it, and why.

    --json implies --once, and so does output that is not a terminal.
    """
    source = collector(endpoint)
    asked = {
        "class": klass,
        "user": user and as_sent(user),
        "service": service,
        "open": None if is_open is None else str(is_open).lower(),
        "limit": limit,
    }

    def ask() -> Findings:
        answer: Findings = source.get("/api/findings", **asked)
        return answer

    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(ask())
        return
    from heatshield.cli.record_tables import finding_view

    screen = console()
    if once or not sys.stdout.isatty():
        screen.print(finding_view(ask()))
        return
    from heatshield.cli.live import watch

    watch(lambda: finding_view(ask()), interval, screen)
