"""``heatshield clear``: end a breaker, so that the user's calls run again."""

from typing import Annotated

import typer

from heatshield.cli.answers import BreakerList, Entry
from heatshield.cli.client import Collector, path_of
from heatshield.cli.errors import CliError
from heatshield.cli.known import as_sent
from heatshield.cli.options import AsJson, Endpoint, Token, collector, operator
from heatshield.identity.wire_id import wire_id
from heatshield.names import BREAKERS_PATH

__all__ = ["clear"]


def clear(
    entry_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Id of the breaker, from `heatshield breakers`."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Clear every breaker of this user.")
    ] = None,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
    token: Token = None,
) -> None:
    """Clear a breaker, or all breakers of a user."""
    if (entry_id is None) == (user is None):
        raise CliError("name one: `heatshield clear ID` or `heatshield clear --user USER`", 2)
    source = collector(endpoint, token, changes=True)
    cleared = [_clear(source, name) for name in _ids(source, entry_id, user)]
    from heatshield.cli.terminal import print_json, safe

    if as_json:
        print_json({"cleared": cleared})
        return
    for entry in cleared:
        typer.echo(
            safe(
                f"cleared {entry['id']}: user {entry['user']} may call {entry['call']}"
                f" of {entry['service']} again"
            )
        )


def _ids(source: Collector, entry_id: str | None, user: str | None) -> list[str]:
    if entry_id is not None:
        return [entry_id]
    held: BreakerList = source.get(BREAKERS_PATH)
    # An entry of before the services had a key holds the raw id.
    names = {wire_id(user), as_sent(user)} if user else set()
    ids = [entry["id"] for entry in held["entries"] if entry["user"] in names]
    if not ids:
        raise CliError(f"no breaker is held for {user}")
    return ids


def _clear(source: Collector, entry_id: str) -> Entry:
    path = BREAKERS_PATH + path_of(entry_id)
    cleared: Entry = source.delete(path, by=operator())["cleared"]
    return cleared
