"""Options that several commands share, and the collector that they select."""

import getpass
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from heatshield.cli.client import Collector
from heatshield.cli.local_token import local_token
from heatshield.settings import ServiceSettings, load

__all__ = [
    "AsJson",
    "Endpoint",
    "Interval",
    "Limit",
    "OperatorSettings",
    "Own",
    "Token",
    "collector",
    "operator",
]

REFRESH_S: Final = 1.0
"""Seconds between two refreshes of a live view: the shortest window of a load."""

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="Address of the collector; default: HEATSHIELD_ENDPOINT, then heatshield.toml.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Admin token of the collector, if it is not one of yours on this machine; prefer "
        "HEATSHIELD_CLI_ADMIN_TOKEN, which process lists do not show.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Interval = Annotated[
    float, typer.Option("--interval", min=0.1, help="Seconds between two refreshes.")
]


Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Rows to show.")]
Own = Annotated[
    bool, typer.Option("--own", help="The collector's own calls, too, which it reports to itself.")
]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of the command line: section ``cli``, variables ``HEATSHIELD_CLI_*``."""

    admin_token: str = field(
        default="",
        metadata={
            "help": "admin token of the collector; by default the one that a collector of this "
            "user on this machine has left"
        },
    )


def collector(
    endpoint: str | None, token: str | None = None, *, changes: bool = False
) -> Collector:
    """Return the collector that flags, environment or file name; the first of them wins.

    It is sent the admin token that was set; else, by a command that changes something, the one that
    it left on this machine; else the one that services send.

    Args:
        endpoint: its address, if a flag names it.
        token: an admin token, if a flag names it.
        changes: whether the command changes anything. What only reads needs no admin token, so it
            looks for none: whoever listens at the endpoint would be told it.

    Raises:
        SettingsError: if a setting is unknown or of the wrong kind.
        CliError: if the address is not a URL.
    """
    settings = load(ServiceSettings, flags={"endpoint": endpoint})
    operator_settings = load(OperatorSettings, "cli", flags={"admin_token": token})
    endpoint = settings.endpoint
    admin_token = operator_settings.admin_token or (local_token(endpoint) if changes else "")
    return Collector(endpoint, admin_token or settings.token)


def operator() -> str:
    """Return the login name of the command's caller, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return "unknown"
