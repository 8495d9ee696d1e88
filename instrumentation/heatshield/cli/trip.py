"""``heatshield trip``: trip a breaker around one call of one user by hand."""

import re
from typing import Annotated, Final

import typer

from heatshield.cli.answers import Entry, Mode
from heatshield.cli.errors import CliError
from heatshield.cli.known import as_sent, check_known
from heatshield.cli.options import AsJson, Endpoint, Token, collector, operator
from heatshield.contract import MAX_LEASE_MS, BreakerMode, EntryScope, PlatformMode
from heatshield.names import BREAKERS_PATH

__all__ = ["lease_ms", "trip"]

NOBODY: Final = "-"
"""Stands for every user or call, where the scope says so."""

UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000}
LEASE: Final = re.compile(r"([0-9]+)(ms|s|m)")


def lease_ms(text: str) -> int:
    """Parse a lease such as ``30s``, ``5m`` or ``1500ms`` to milliseconds.

    Raises:
        typer.BadParameter: if the text is not a lease, or not in (0, 15 min].
    """
    match = LEASE.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is not a lease: use 30s, 5m or 1500ms")
    value_ms = int(match[1]) * UNITS_MS[match[2]]
    if not 0 < value_ms <= MAX_LEASE_MS:
        raise typer.BadParameter(f"a lease is longer than 0 and at most {MAX_LEASE_MS // 60_000}m")
    return value_ms


ScopeOption = Annotated[
    EntryScope,
    typer.Option(
        help="What it is around. user_service: all calls of the user to the service (CALL is"
        " -). tenant_call, call: the call, whoever makes it (USER is -). pattern: * and ? stand"
        " for other characters. All but the first two need --lease."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget",
        min=0,
        help="Busy seconds a second that all instances together let through, with --mode pace;"
        " default: the user's fair share.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option("--rate", min=0, help="Calls per second and client, with --mode trickle."),
]
Lease = Annotated[
    str | None,
    typer.Option("--lease", help="Lease of the breaker, such as 30s or 5m; default: 15m."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Though no such name is known yet, or the policy is against."),
]


def trip(  # noqa: PLR0913, PLR0917  each is an argument or a flag
    user: Annotated[str, typer.Argument(help="The user's id, as services send it.")],
    service: Annotated[str, typer.Argument(help="The service of the call.")],
    call: Annotated[str, typer.Argument(help="The call, such as 'POST /purchases/{user}'.")],
    mode: Annotated[
        BreakerMode, typer.Option(help="What happens to the user's calls.")
    ] = BreakerMode.REJECT,
    scope: ScopeOption = EntryScope.USER_CALL,
    budget: Budget = None,
    rate: Rate = None,
    lease: Lease = None,
    reason: Annotated[str, typer.Option("--reason", help="One sentence for the audit.")] = "",
    force: Force = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
    token: Token = None,
) -> None:
    """Trip a breaker around one call of one user, in every instance of the service.

    With HEATSHIELD_USER_KEY (or user_key) set the user may be named by the raw id or the pseudonym.
    """
    held_ms = lease_ms(lease) if lease else None
    user, call = _parts(user, call, scope)
    figures = _figures(mode, rate, budget)
    body = {
        "user": user,
        "service": service,
        "call": call,
        "mode": mode.value,
        "lease_ms": held_ms,
        "reason": reason or f"tripped by human:{operator()}",
        "issuer": f"human:{operator()}",
        **({} if scope is EntryScope.USER_CALL else {"scope": scope.value}),
        **(figures | ({"force": True} if force else {})),
    }
    source = collector(endpoint, token, changes=True)
    if not force and scope is EntryScope.USER_CALL:
        check_known(source, user, service, call)
    entry: Entry = source.post(BREAKERS_PATH, body)
    if as_json:
        from heatshield.cli.terminal import print_json

        print_json(entry)
        return
    from heatshield.cli.tables import span_text
    from heatshield.cli.terminal import safe

    held_s = (held_ms or MAX_LEASE_MS) / 1e3
    what = f"{entry['mode']} {entry['call'] or 'all calls'} of {entry['service']}"
    until = f"for {span_text(held_s)} or until it is cleared"
    typer.echo(safe(f"tripped {entry['id']}: {what} for {_whom(entry)}, {until}"))
    platform: Mode = source.get("/api/mode")
    if platform["mode"] == PlatformMode.SHADOW:
        typer.echo("the platform is in shadow: nothing is enforced until `heatshield mode protect`")


def _whom(entry: Entry) -> str:
    return f"user {entry['user']}" if entry["user"] else "all users"


def _parts(user: str, call: str, scope: EntryScope) -> tuple[str, str]:
    """User and call as the scope has them.

    Raises:
        CliError: if ``-`` stands where the scope needs a name, or a name where it needs none.
    """
    all_users = scope in (EntryScope.TENANT_CALL, EntryScope.CALL)
    all_calls = scope is EntryScope.USER_SERVICE
    for name, value, left_open in (("USER", user, all_users), ("CALL", call, all_calls)):
        if left_open and value != NOBODY:
            raise CliError(f"--scope {scope.value} is about every {name.lower()}: say - there", 2)
        if not left_open and value == NOBODY and (all_users or all_calls):
            raise CliError(f"--scope {scope.value} is about one {name.lower()}: say which", 2)
    if scope is EntryScope.PATTERN:
        return user, call
    return "" if all_users else as_sent(user), "" if all_calls else call


def _figures(mode: BreakerMode, rate: float | None, budget: float | None) -> dict[str, float]:
    """What the mode takes.

    Raises:
        CliError: if a rate is missing for ``trickle``, or a figure is given for another mode.
    """
    if (mode is BreakerMode.TRICKLE) != (rate is not None):
        raise CliError("--mode trickle requires --rate, and no other mode takes it", 2)
    if budget is not None and mode is not BreakerMode.PACE:
        raise CliError("only --mode pace takes --budget", 2)
    figures = {"rate_per_s": rate, "budget": budget}
    return {name: value for name, value in figures.items() if value is not None}
