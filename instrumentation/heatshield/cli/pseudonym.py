"""``heatshield pseudonym``: compute users' pseudonyms from their raw ids and the key."""

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson
from heatshield.identity.identify import acceptable
from heatshield.identity.pseudonym import pseudonym as pseudonym_of
from heatshield.settings import ServiceSettings, load

__all__ = ["pseudonym"]

STDIN = "-"


def pseudonym(
    users: Annotated[
        list[str],
        typer.Argument(
            metavar="USER...",
            help="Raw user ids; `-` reads one per line from stdin, hidden from process lists.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compute the pseudonyms that services send if HEATSHIELD_USER_KEY (or user_key) is set.

    To find the user behind a pseudonym, compute the pseudonyms of all users and search them.
    """
    key = load(ServiceSettings).user_key.encode()
    if not key:
        raise CliError("no key is set: set HEATSHIELD_USER_KEY to the key of the services", 2)
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
        raw = acceptable(user)
        if raw is None:
            raise CliError(f"{user!r} is not an id that services accept", 2)
        yield raw
