"""The command line: ``heatshield COMMAND``.

:mod:`heatshield.cli.app` puts it together, one file per command says what the command does,
:mod:`heatshield.cli.plugins` finds the commands that other packages bring.

Services need none of it but ``heatshield run``, which works without the extra ``cli`` that brings
typer and rich, and without the time that their imports take.
"""

import sys
from typing import Final, NoReturn

from heatshield.autostart.launch import LaunchError, launch, parse

__all__ = ["main"]

_OF_EXTRA: Final = frozenset({"typer", "click", "rich"})


def main() -> None:
    """Run the command line of this process."""
    wanted = parse(sys.argv[2:]) if sys.argv[1:2] == ["run"] else None
    if wanted is not None:
        try:
            launch(wanted)
        except LaunchError as error:
            _end(str(error), error.exit_code)
    try:
        from heatshield.cli.app import main as whole
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_EXTRA:
            raise
        _end(
            "the command line needs an extra: pip install 'heatshield[cli]'; without it there is "
            "`heatshield run [--service NAME] [--endpoint URL] -- COMMAND...`",
            2,
        )
    whole()


def _end(message: str, exit_code: int) -> NoReturn:
    sys.stderr.write(f"heatshield: {message}\n")
    raise SystemExit(exit_code)
