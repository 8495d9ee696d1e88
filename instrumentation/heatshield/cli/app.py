"""Assembles the commands into one application and prints each failure as one line."""

import importlib.metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from heatshield.cli import run_command
from heatshield.cli.alerts import alerts
from heatshield.cli.audit import audit
from heatshield.cli.breakers import breakers
from heatshield.cli.clear import clear
from heatshield.cli.doctor import doctor
from heatshield.cli.errors import CliError
from heatshield.cli.findings import findings
from heatshield.cli.hot import hot
from heatshield.cli.metrics import metrics
from heatshield.cli.mode import mode
from heatshield.cli.plugins import MARKUP, plugin_commands
from heatshield.cli.pseudonym import pseudonym
from heatshield.cli.request import request
from heatshield.cli.requests import requests
from heatshield.cli.trip import trip
from heatshield.settings import SettingsError

__all__ = ["app", "main"]


class Commands(TyperGroup):
    """Our commands and those of other packages; errors become one line and an exit code."""

    def __init__(self, **attributes: Any) -> None:  # as typer passes them on
        super().__init__(**attributes)
        for command in plugin_commands():
            if command.name not in self.commands:  # no package may replace `trip`
                self.add_command(command)

    def invoke(self, ctx: Any) -> object:  # typer keeps the context's class private
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except CliError as error:
            typer.echo(f"heatshield: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except SettingsError as error:
            typer.echo(f"heatshield: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="heatshield",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    help="Finds the one user that overloads the platform and trips a breaker around "
    "just that user's expensive call.",
    epilog="Exit codes: 0 success; 1 failure; 2 wrong usage. "
    "Errors go to stderr; with --json, stdout holds only JSON.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"heatshield {importlib.metadata.version('heatshield')}")
        raise typer.Exit


@app.callback()
def heatshield(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Accept the options before the command."""


app.command("run", context_settings=run_command.CONTEXT)(run_command.run)
for command in (
    *(request, requests, hot, breakers, trip, clear, mode, alerts, findings, audit),
    *(metrics, pseudonym, doctor),
):
    app.command()(command)


def main() -> None:
    """Run the command line of this process."""
    app()
