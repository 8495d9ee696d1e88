"""``heatshield run -- COMMAND``: start a service with instrumentation, its code unchanged."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import Endpoint

__all__ = ["CONTEXT", "child_environment", "run"]

CONTEXT: Final = {"allow_interspersed_args": False}
"""The command begins at the first word that is not an option of ``run``; the rest belongs to it."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of shells that can't start a command."""


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
    program = find_program(command[0], os.environ)
    environment = child_environment(os.environ, service, endpoint)
    _warn(program, command[1:])
    sys.stdout.flush()
    try:
        # argv[0] is the full path: from a bare name, Python searches PATH for its own home.
        os.execve(program, [program, *command[1:]], environment)  # noqa: S606  the user's command
    except PermissionError as error:
        raise CliError(f"{program} is not executable", NOT_EXECUTABLE) from error
    except OSError as error:
        raise CliError(f"{program}: {error.strerror}", NOT_EXECUTABLE) from error


def _warn(program: str, arguments: Sequence[str]) -> None:
    """Warn if the command is certain to escape instrumentation; it runs all the same."""
    from heatshield.autostart.isolation import obstacle

    found = obstacle(program, arguments)
    if found is not None:
        typer.echo(
            f"heatshield: {found}, so the command runs without instrumentation; change that, "
            "or call heatshield.instrument() first in the program",
            err=True,
        )


def child_environment(
    environ: Mapping[str, str], service: str | None, endpoint: str | None
) -> dict[str, str]:
    """Return an environment in which Python instruments itself; flags override variables."""
    from heatshield.autostart import environment

    given = {"HEATSHIELD_SERVICE": service, "HEATSHIELD_ENDPOINT": endpoint}
    return dict(environment({**environ, **{name: value for name, value in given.items() if value}}))


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """Find the command on ``PATH``, else beside this interpreter.

    The second place serves virtual environments that are not activated.

    Raises:
        CliError: with a shell's exit code, if the command is not found or not executable.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=environ.get("PATH")) or shutil.which(name, path=beside)
    if found:
        return found
    if Path(name).is_file():
        raise CliError(f"{name} is not executable", NOT_EXECUTABLE)
    raise CliError(f"{name}: command not found", NOT_FOUND)
