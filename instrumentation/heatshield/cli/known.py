"""Names that people type: users as services send them, and whether anything has reported a name."""

from http import HTTPStatus
from typing import Final

import typer

from heatshield.cli.answers import Known
from heatshield.cli.client import Collector
from heatshield.cli.errors import ApiError, CliError, CollectorUnreachable
from heatshield.cli.terminal import safe
from heatshield.identity.identify import acceptable
from heatshield.identity.pseudonym import is_pseudonym, pseudonym
from heatshield.identity.wire_id import wire_id
from heatshield.settings import ServiceSettings, load

__all__ = ["as_sent", "check_known"]

KNOWN_PATH: Final = "/api/known"

_UNCHECKED: Final = (
    "the collector could not tell in time whether anything has reported these names, so they are "
    "unchecked; `heatshield hot` shows the users and calls that are busy"
)


def as_sent(user: str) -> str:
    """The user as services send it: with their key at hand, the pseudonym of a raw id; without, the
    id, hashed where it is long or not printable.
    """
    key = load(ServiceSettings).user_key.encode()
    if not key or is_pseudonym(user):
        return wire_id(user)
    return pseudonym(key, acceptable(user) or user)


def check_known(source: Collector, user: str, service: str, call: str) -> None:
    """Have a name that nothing has reported refused.

    Where the store is too slow to tell, the names are believed and stderr says so: that is when
    somebody must be cut soon, and a breaker needs no store.

    Raises:
        CliError: it says which names are unknown, and the nearest known one of each; or why there
            is no answer.
    """
    try:
        answer: Known = source.get(KNOWN_PATH, user=user, service=service, call=call)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:  # a collector of before there was this question
            return
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        typer.echo(_UNCHECKED, err=True)
        return
    except CollectorUnreachable as error:
        if not isinstance(error.__cause__, TimeoutError):
            raise
        typer.echo(_UNCHECKED, err=True)
        return
    names = {"service": service, "call": call, "user": user}
    if not answer["service"]["known"]:
        del names["call"]  # of an unknown service every call is unknown
    unknown = [
        _unknown(what, name, answer[what]["near"])  # type: ignore[literal-required]
        for what, name in names.items()
        if not answer[what]["known"]  # type: ignore[literal-required]
    ]
    if unknown:
        raise CliError(
            safe("; ".join(unknown)) + ". Nothing was tripped; --force trips it for what is to come"
        )


def _unknown(what: str, name: str, near: str | None) -> str:
    hint = f" (the nearest known: {near!r})" if near and not is_pseudonym(name) else ""
    if what == "user" and near and is_pseudonym(near) and not is_pseudonym(name):
        hint = (
            " (services send pseudonyms: set HEATSHIELD_USER_KEY to their key, or name the user by "
            "the pseudonym)"
        )
    return f"nothing has reported the {what} {name!r}{hint}"
