"""``heatshield run -- COMMAND``: start a service with instrumentation, its code unchanged."""

from typing import Annotated, Final

import typer

from heatshield.autostart.launch import Launch, LaunchError, launch
from heatshield.cli.errors import CliError
from heatshield.cli.options import Endpoint

__all__ = ["CONTEXT", "run"]

CONTEXT: Final = {"allow_interspersed_args": False}
"""The command begins at the first word that is not an option of ``run``; the rest belongs to it."""


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The command, after --.")
    ],
    service: Annotated[
        str | None,
        typer.Option("--service", help="Name of the service; default: HEATSHIELD_SERVICE."),
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Run a command with instrumentation: heatshield run -- uvicorn shop:app."""
    try:
        launch(Launch(command, service, endpoint))
    except LaunchError as error:
        raise CliError(str(error), error.exit_code) from error
