"""Options that several commands share, and the collector they lead to."""

import getpass
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from heatshield.cli.client import Collector
from heatshield.settings import ServiceSettings, load

__all__ = [
    "AsJson",
    "Endpoint",
    "Interval",
    "OperatorSettings",
    "Token",
    "collector",
    "operator",
]

REFRESH_S: Final = 1.0
"""Seconds between two looks of a live view: the shortest window of a load."""

Endpoint = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="URL",
        help="Address of the collector; else HEATSHIELD_ENDPOINT, else heatshield.toml.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Admin token of the collector; better in HEATSHIELD_CLI_ADMIN_TOKEN, where no "
        "process list shows it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Interval = Annotated[
    float, typer.Option("--interval", min=0.1, help="Seconds between two looks of a live view.")
]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What the people who call the command line can set: section ``cli``, ``HEATSHIELD_CLI_*``."""

    admin_token: str = field(
        default="", metadata={"help": "token the collector asks of who changes breakers or mode"}
    )


def collector(endpoint: str | None, token: str | None = None) -> Collector:
    """The collector that flags, environment and file name, in this order.

    Raises:
        SettingsError: on a setting that is unknown or of the wrong kind.
        CliError: when its address is not a URL.
    """
    settings = load(ServiceSettings, flags={"endpoint": endpoint})
    operator_settings = load(OperatorSettings, "cli", flags={"admin_token": token})
    return Collector(settings.endpoint, operator_settings.admin_token)


def operator() -> str:
    """The name of who calls the command, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return "unknown"
