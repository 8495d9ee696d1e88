"""``heatshield policy``: what rules may do and which limits hold, and a check of a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heatshield.cli.options import AsJson, Endpoint, Token, collector
from heatshield.cli.plugins import MARKUP

if TYPE_CHECKING:
    from heatshield_alerts.policy import Policy

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=MARKUP,
    help="What rules may do, and the declared limits: show what is in force, or check a file.",
)


@app.callback(invoke_without_command=True)
def policy(
    context: typer.Context, as_json: AsJson = False, endpoint: Endpoint = None, token: Token = None
) -> None:
    """Show the policy that is in force, or check a policy file."""
    if context.invoked_subcommand is not None:
        return
    answer: dict[str, Any] = collector(endpoint, token).get("/api/policy")
    if as_json:
        _print_json(answer)
        return
    typer.echo(f"version {answer['version']} of {answer['file'] or 'no file'}")
    for error in answer["errors"]:
        typer.echo(f"not in force as the file is: {error}", err=True)
    _show(answer["policy"])


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The policy file.")],
    as_json: AsJson = False,
) -> None:
    """Check a policy file; exit code 1 and all its errors on stderr where it can't be used."""
    from heatshield_alerts.policy import PolicyError, load_file

    try:
        found: Policy = load_file(file)
    except PolicyError as error:
        if as_json:
            _print_json({"ok": False, "errors": list(error.errors)})
        for line in error.errors:
            typer.echo(line, err=True)
        raise typer.Exit(1) from error
    if as_json:
        said = {"ok": True, "errors": [], "version": found.version, "policy": found.to_json()}
        _print_json(said)
        return
    typer.echo(f"{file} can be used: version {found.version}")
    _show(found.to_json())


def _show(said: dict[str, Any]) -> None:
    from heatshield.cli.terminal import safe

    rules = dict(said["rules"])
    rules["ladders"] = [f"{calls} → {ladder}" for calls, ladder in rules["ladders"]]
    for name, value in rules.items():
        text = ", ".join(value) if isinstance(value, list) else "" if value is None else value
        typer.echo(safe(f"  rules.{name}: {'none' if text == '' else text}"))
    for limit in said["limits"]:
        about = [f"{part} {limit[part]}" for part in ("service", "call", "user") if limit[part]]
        text = f"{limit['rate_per_s']:g} {limit['unit']} a second per {limit['per']}"
        typer.echo(safe(f"  limit {limit['id']}: {', '.join([text, *about])}"))


def _print_json(answer: object) -> None:
    from heatshield.cli.terminal import print_json

    print_json(answer)
