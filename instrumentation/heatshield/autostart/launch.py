"""Becomes a command that instruments itself: what ``heatshield run`` does.

It is on the way of every deployment, so it needs no extra and imports next to nothing.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from heatshield.autostart import environment
from heatshield.autostart.isolation import obstacle

__all__ = ["Launch", "LaunchError", "find_program", "launch", "parse"]

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of shells that can't start a command."""


class LaunchError(Exception):
    """The command can't be started.

    Attributes:
        exit_code: a shell's for such a failure.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Launch(NamedTuple):
    """What is to be run.

    Attributes:
        command: program and arguments.
        service: its name for telemetry; ``None``: what the environment says.
        endpoint: address of the collector; ``None``: what the environment says.
    """

    command: Sequence[str]
    service: str | None = None
    endpoint: str | None = None


def parse(arguments: Sequence[str]) -> Launch | None:
    """Read the arguments of ``heatshield run``; ``None`` where they need explaining."""
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, is_joined, value = word.partition("=")
        if word == "--" or not word.startswith("-") or word == "-":
            command = rest if word == "--" else [word, *rest]
            wanted = Launch(command, options.get("--service"), options.get("--endpoint"))
            return wanted if command else None
        if name not in {"--service", "--endpoint"} or not (is_joined or rest):
            return None
        options[name] = value if is_joined else rest.pop(0)
    return None


def launch(wanted: Launch) -> NoReturn:
    """Become the command, in an environment in which Python instruments itself.

    Raises:
        LaunchError: if it can't be started.
    """
    program = find_program(wanted.command[0], os.environ)
    given = {"HEATSHIELD_SERVICE": wanted.service, "HEATSHIELD_ENDPOINT": wanted.endpoint}
    said = {name: value for name, value in given.items() if value}
    child = dict(environment({**os.environ, **said}))
    _warn(program, wanted.command[1:])
    sys.stdout.flush()
    try:
        # argv[0] is the full path: from a bare name, Python searches PATH for its own home.
        os.execve(program, [program, *wanted.command[1:]], child)  # noqa: S606  the user's command
    except PermissionError as error:
        raise LaunchError(f"{program} is not executable", NOT_EXECUTABLE) from error
    except OSError as error:
        raise LaunchError(f"{program}: {error.strerror}", NOT_EXECUTABLE) from error


def _warn(program: str, arguments: Sequence[str]) -> None:
    """Warn if the command is certain to escape instrumentation; it runs all the same."""
    if (found := obstacle(program, arguments)) is not None:
        sys.stderr.write(
            f"heatshield: {found}, so the command runs without instrumentation; change that, "
            "or call heatshield.instrument() first in the program\n"
        )


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """Find the command on ``PATH``, else beside this interpreter.

    The second place serves virtual environments that are not activated.

    Raises:
        LaunchError: with a shell's exit code, if the command is not found or not executable.
    """
    beside = os.path.dirname(sys.executable)  # noqa: PTH120  # pathlib takes longer than all of this
    found = shutil.which(name, path=environ.get("PATH")) or shutil.which(name, path=beside)
    if found:
        return found
    if os.path.isfile(name):  # noqa: PTH113  # as above
        raise LaunchError(f"{name} is not executable", NOT_EXECUTABLE)
    raise LaunchError(f"{name}: command not found", NOT_FOUND)
