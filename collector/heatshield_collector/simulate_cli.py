"""``heatshield simulate`` and ``heatshield evaluate``: detection on made-up worlds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson

if TYPE_CHECKING:
    from heatshield_collector.worlds.judge import Judgement

__all__ = ["evaluate", "simulate"]

MODES: Final = ("reports", "spans", "both")

TelemetryMode = Annotated[
    str | None,
    typer.Option(
        "--telemetry", metavar="reports|spans|both", help="By what processes tell their costs."
    ),
]


def simulate(
    scenario: Annotated[
        str | None, typer.Argument(metavar="SCENARIO", help="Name of a scene; see --list.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of all chance in it.")] = 1,
    list_them: Annotated[bool, typer.Option("--list", help="List the scenes.")] = False,
    as_json: AsJson = False,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", min=1, help="Virtual seconds, not the scene's own."),
    ] = None,
    telemetry: TelemetryMode = None,
    scale: Annotated[
        float, typer.Option("--scale", metavar="F", min=0.01, help="Times as many ids in a flood.")
    ] = 1.0,
) -> None:
    """Run one scene on virtual time: who is found, slowed and cut, when and why, and who suffered.

    Services queue for workers, processors and backends; what they send goes through the collector's
    real path, and its breakers act on the scene. The same seed gives the same answer.
    """
    from heatshield_collector.worlds.judge import judge
    from heatshield_collector.worlds.scenes import SCENES

    if list_them or scenario is None:
        _list(SCENES, as_json)
        return
    if scenario not in SCENES:
        raise CliError(f"there is no scene {scenario!r}; `heatshield simulate --list` lists them")
    found = judge(SCENES[scenario], seed, seconds, _mode(telemetry), scale)
    if as_json:
        _print_json(found.to_json())
    else:
        _show(found)


def _list(scenes: dict[str, Any], as_json: bool) -> None:
    rows = [{"name": one.name, "kind": one.kind, "about": one.about} for one in scenes.values()]
    if as_json:
        _print_json({"scenes": rows})
        return
    for row in rows:
        typer.echo(f"{row['name']:<28} {row['kind']:<9} {row['about']}")


def _mode(telemetry: str | None) -> Any:
    if telemetry is not None and telemetry not in MODES:
        raise CliError(f"--telemetry {telemetry!r} is none; say {', '.join(MODES)}")
    return telemetry


def _show(found: "Judgement") -> None:
    typer.echo(
        f"{found.scene}, seed {found.seed}: {found.requests:,} requests in {found.seconds:g} s, "
        f"simulated in {found.took_s:.1f} s"
    )
    for finding in found.findings:
        who = finding["user"] or "everybody"
        typer.echo(f"{finding['at_s']:9.3f} s  {finding['class']:<9} {who}  {finding['reason']}")
    for one in found.decisions:
        typer.echo(
            f"{one.at_s:9.3f} s  {one.change:<9} {one.user} on {one.service} {one.call}: "
            f"{one.mode}. {one.reason}"
        )
    if found.real:
        for name, how in (("unprotected", found.unprotected), ("protected", found.protected)):
            typer.echo(
                f"others {name}: {how.harmed:,} of {how.requests:,} requests of {how.users:,} "
                f"users harmed; p95 {how.p95_ms:g} ms, without culprits {how.p95_without_ms:g} ms"
            )
        for user, seconds in found.pace_s.items():
            typer.echo(f"{user}: slowed {seconds:g} s after the first harmful request")
        for user, seconds in found.refuse_s.items():
            typer.echo(f"{user}: refused {seconds:g} s after the first harmful request")
    for name, users in (
        ("missed", found.missed), ("innocent, slowed", found.paced),
        ("innocent, slowed fairly", found.fair_paced), ("innocent, refused", found.refused),
    ):  # fmt: skip
        if users:
            typer.echo(f"{name}: {', '.join(users)}")
    typer.echo("as it should be" if found.passed else "not as it should be")


def evaluate(
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="K", min=1, help="Worlds of each scene.")
    ] = 2,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="NAME", help="Scenes of this kind, or with this in the name."
        ),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Also write the table as Markdown there."),
    ] = None,
    telemetry: TelemetryMode = None,
) -> None:
    """Run all scenes and compare with the targets; exit code 1 if one is missed.

    Prints precision, recall, seconds to decisions, false trips per simulated day and memory.
    """
    from heatshield_collector.worlds.suite import evaluation, run, text_of

    judgements = run(seeds, only or "", _mode(telemetry))
    if not judgements:
        raise CliError(f"no scene is of kind {only!r} or has it in its name")
    result = evaluation(judgements)
    if markdown is not None:
        markdown.write_text(text_of(result, markdown=True), encoding="utf-8")
    if as_json:
        _print_json(result.to_json())
    else:
        typer.echo(text_of(result))
    if not result.passed:
        raise typer.Exit(1)


def _print_json(answer: object) -> None:
    from heatshield.cli.terminal import print_json

    print_json(answer)
