"""``heatshield pseudonym``: what services call a user, for whoever has the key."""

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson
from heatshield.identity.pseudonym import pseudonym as pseudonym_of
from heatshield.identity.sources import acceptable
from heatshield.settings import ServiceSettings, load

__all__ = ["pseudonym"]

STDIN = "-"


def pseudonym(
    users: Annotated[
        list[str],
        typer.Argument(
            metavar="USER...", help="Raw user ids; `-` reads one a line, as no process list shows."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compute what services call users where HEATSHIELD_USER_KEY (or user_key) is set.

    To find whose a pseudonym is, compute those of all users and look for it.
    """
    key = load(ServiceSettings).user_key.encode()
    if not key:
        raise CliError("no key is set: HEATSHIELD_USER_KEY is the one that the services have", 2)
    named = users != [STDIN]
    found = {user: pseudonym_of(key, user) for user in _checked(users if named else _lines())}
    if as_json:
        from heatshield.cli.terminal import print_json

        print_json(found)
        return
    for user, known_as in found.items():
        typer.echo(known_as if named and len(found) == 1 else f"{known_as}\t{user}")


def _lines() -> Iterable[str]:
    return (line.rstrip("\r\n") for line in sys.stdin if line.strip())


def _checked(users: Iterable[str]) -> Iterable[str]:
    for user in users:
        if acceptable(user) is None:
            raise CliError(f"no service would accept {user!r} as an id", 2)
        yield user
