"""``heatshield run -- COMMAND``: start a service instrumented, without touching its code."""

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
"""The first word that is not our option begins the command; all that follows is the command's."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""What shells exit with when they can't start a command."""


def run(
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="The command, after --.")
    ],
    service: Annotated[
        str | None, typer.Option("--service", help="Name of the service; else HEATSHIELD_SERVICE.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Run a command with instrumentation switched on: heatshield run -- uvicorn shop:app."""
    program = find_program(command[0], os.environ)
    environment = child_environment(os.environ, service, endpoint)
    _warn(program, command[1:])
    sys.stdout.flush()
    try:
        # The full path as argv[0]: a Python given a bare name looks for its own home on PATH.
        os.execve(program, [program, *command[1:]], environment)  # noqa: S606  asked for
    except PermissionError as error:
        raise CliError(f"{program} is not executable", NOT_EXECUTABLE) from error
    except OSError as error:
        raise CliError(f"{program}: {error.strerror}", NOT_EXECUTABLE) from error


def _warn(program: str, arguments: Sequence[str]) -> None:
    """Say it if the command can be seen not to be instrumented; it runs all the same."""
    from heatshield.autostart.isolation import obstacle

    found = obstacle(program, arguments)
    if found is not None:
        typer.echo(
            f"heatshield: {found}, so this runs without instrumentation; change that, "
            "or begin the program with heatshield.instrument()",
            err=True,
        )


def child_environment(
    environ: Mapping[str, str], service: str | None, endpoint: str | None
) -> dict[str, str]:
    """The environment in which a Python process instruments itself; flags go over what is set."""
    from heatshield.autostart import environment

    given = {"HEATSHIELD_SERVICE": service, "HEATSHIELD_ENDPOINT": endpoint}
    return dict(environment({**environ, **{name: value for name, value in given.items() if value}}))


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """Where the command is: on ``PATH``, else beside the interpreter that runs us.

    The second is for a virtual environment that is not activated.

    Raises:
        CliError: with a shell's exit code when it is nowhere.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=environ.get("PATH")) or shutil.which(name, path=beside)
    if found:
        return found
    if Path(name).is_file():
        raise CliError(f"{name} is not executable", NOT_EXECUTABLE)
    raise CliError(f"{name}: command not found", NOT_FOUND)
