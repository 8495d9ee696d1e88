"""``heatshield signing-key``: the key that a collector signs breakers by."""

from pathlib import Path
from typing import Annotated

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson
from heatshield.clock import SystemClock
from heatshield_collector.signer import Signer, make_key, read_key

__all__ = ["signing_key"]


def signing_key(
    file: Annotated[Path, typer.Argument(help="File of the private key; made if it is not there.")],
    as_json: AsJson = False,
) -> None:
    """Make a key to sign breakers by, and print its public half, which services pin.

    The collector is given the file (HEATSHIELD_COLLECTOR_SIGNING_KEY), each service what is printed
    (HEATSHIELD_BREAKER_KEY). Of a file that is there, the public half is printed.
    """
    try:
        seed = read_key(file) if file.exists() else make_key(file)
    except OSError as error:
        raise CliError(f"{file} can't be made: {error.strerror}") from error
    public = Signer(seed, SystemClock()).public_key
    if as_json:
        from heatshield.cli.terminal import print_json

        print_json({"file": str(file), "breaker_key": public})
        return
    typer.echo(public)
