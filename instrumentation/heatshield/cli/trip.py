"""``heatshield trip``: trip a breaker around one call of one user by hand."""

import re
from typing import Annotated, Final

import typer

from heatshield.cli.answers import Entry, Mode
from heatshield.cli.errors import CliError
from heatshield.cli.known import as_sent, check_known
from heatshield.cli.options import AsJson, Endpoint, Token, collector, operator
from heatshield.contract import MAX_LEASE_MS, BreakerMode, PlatformMode
from heatshield.names import BREAKERS_PATH

__all__ = ["lease_ms", "trip"]

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


def trip(  # noqa: PLR0913, PLR0917  each is an argument or a flag
    user: Annotated[str, typer.Argument(help="The user's id, as services send it.")],
    service: Annotated[str, typer.Argument(help="The service of the call.")],
    call: Annotated[str, typer.Argument(help="The call, such as 'POST /purchases/{user}'.")],
    mode: Annotated[
        BreakerMode, typer.Option(help="What happens to the user's calls.")
    ] = BreakerMode.REJECT,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0, help="Calls per second and client, with --mode trickle."),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option("--lease", help="Lease of the breaker, such as 30s or 5m; default: 15m."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="One sentence for the audit.")] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Trip it though nothing has reported such a name yet."),
    ] = False,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
    token: Token = None,
) -> None:
    """Trip a breaker around one call of one user, in every instance of the service.

    With HEATSHIELD_USER_KEY (or user_key) set the user may be named by the raw id or the pseudonym.
    """
    held_ms = lease_ms(lease) if lease else None
    user = as_sent(user)
    body = _body(user, service, call, mode, rate, held_ms, reason)
    source = collector(endpoint, token, changes=True)
    if not force:
        check_known(source, user, service, call)
    entry: Entry = source.post(BREAKERS_PATH, body)
    if as_json:
        from heatshield.cli.terminal import print_json

        print_json(entry)
        return
    from heatshield.cli.tables import span_text
    from heatshield.cli.terminal import safe

    held_s = (held_ms or MAX_LEASE_MS) / 1e3
    typer.echo(
        safe(
            f"tripped {entry['id']}: {entry['mode']} {entry['call']} of {entry['service']}"
            f" for user {entry['user']}, for {span_text(held_s)} or until it is cleared"
        )
    )
    platform: Mode = source.get("/api/mode")
    if platform["mode"] == PlatformMode.SHADOW:
        typer.echo("the platform is in shadow: nothing is enforced until `heatshield mode protect`")


def _body(
    user: str,
    service: str,
    call: str,
    mode: BreakerMode,
    rate: float | None,
    lease_ms: int | None,
    reason: str,
) -> dict[str, object]:
    """Build the body of the request.

    Raises:
        CliError: if a rate is missing for ``trickle``, or given for another mode.
    """
    if (mode is BreakerMode.TRICKLE) != (rate is not None):
        raise CliError("--mode trickle requires --rate, and no other mode takes it", 2)
    issuer = f"human:{operator()}"
    return {
        "user": user,
        "service": service,
        "call": call,
        "mode": mode.value,
        "lease_ms": lease_ms,
        "reason": reason or f"tripped by {issuer}",
        "issuer": issuer,
        **({"rate_per_s": rate} if rate is not None else {}),
    }
