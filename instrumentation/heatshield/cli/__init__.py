"""The command line: ``heatshield COMMAND``.

:mod:`heatshield.cli.app` puts it together, one file per command says what the command does,
:mod:`heatshield.cli.plugins` finds the commands that other packages bring.
"""

from heatshield.cli.app import main

__all__ = ["main"]
