"""``heatshield demo``: run the sticker shop without protection, then with it."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from heatshield.cli.errors import CliError
from heatshield.cli.terminal import print_json
from heatshield_stickershop.demo.machine import NOISY_SHARE, Processors, connections_for
from heatshield_stickershop.demo.report import Expectation, Run, expectations, report
from heatshield_stickershop.demo.run import COLD_START_S, WARM_UP_S, Acts, DemoFailed, play
from heatshield_stickershop.demo.scenes import SCENES, figures
from heatshield_stickershop.demo.view import View, figure_table, result_table, verdicts, view_for
from heatshield_stickershop.processes import ChildFailed

__all__ = ["SceneName", "demo"]


class SceneName(StrEnum):
    """What the demo plays."""

    HOT = "hot"
    CYCLES = "cycles"
    ENDLESS = "endless"
    CROWD = "crowd"
    PAGE = "page"


SECONDS: Final = 24.0
"""Load in each of the two runs: enough requests for a p99 before and during the hot user's load."""

FEWEST_SECONDS: Final = 12.0

MEASURING: Final = Acts(calm_s=6.0, hot_s=3.0)
"""The run that fits the hot user to this machine."""

REPORT: Final = Path("demo-report.json")


def demo(
    seconds: Annotated[
        float, typer.Option(min=FEWEST_SECONDS, help="Seconds of load in each of the two runs.")
    ] = SECONDS,
    report_file: Annotated[
        Path, typer.Option("--report", dir_okay=False, help="File for the JSON report.")
    ] = REPORT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report on stdout, the rest on stderr.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of users and arrivals.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the stores and logs of the runs.")
    ] = False,
    scene: Annotated[
        SceneName,
        typer.Option(
            help="hot: both runs; others are one run in protect each: cycles (three times on and "
            "off), endless (a minute without a stop), crowd (all come at once), page (a reader's "
            "pages of pictures)."
        ),
    ] = SceneName.HOT,
) -> None:
    """Run the sticker shop twice, one hot user among hundreds: without protection, then with it.

    A short run before them measures how hard the hot user must buy on this machine. Exits with 1 if
    an expectation is not met, and shows which; latencies are not judged while the machine does much
    other work.
    """
    console = Console(stderr=as_json, highlight=False)
    directory = Path(tempfile.mkdtemp(prefix="heatshield-demo-"))
    # SIGTERM must end the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if scene is not SceneName.HOT:
        _show_scene(scene.value, console, directory, report_file, seed, keep=keep, as_json=as_json)
        return
    before = Processors.now()
    with _removed_if_stopped(directory, keep=keep):
        shadow, protect = _play_both(directory, Acts.of(seconds), seed, view_for(console))
    others_share = _others_share(before)
    found = report(shadow, protect) | {"machine": {"others_share": others_share}}
    report_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    met = _told(console, result_table(found), expectations(found), others_share)
    _say_where(console, report_file, directory, found["protect"]["evidence_trace_id"])
    if met and not keep:
        for mode in ("measuring", "shadow"):
            shutil.rmtree(directory / mode)
    if as_json:
        print_json(found)
    if not met:
        raise typer.Exit(1)


def _show_scene(
    name: str, console: Console, directory: Path, report_file: Path, seed: int, *, keep: bool,
    as_json: bool,
) -> None:  # fmt: skip
    play_of, view = SCENES[name], view_for(console)
    view.say(f"{name}: {play_of.about}, {play_of.acts.calm_s + play_of.acts.hot_s:g} s")
    before = Processors.now()
    with _removed_if_stopped(directory, keep=keep):
        run = play("protect", directory / name, play_of.acts, seed, view, more=play_of.load)
    others_share, found = _others_share(before), figures(play_of, run)
    met = _told(console, figure_table(found), play_of.claims(found), others_share)
    said = {"scene": name, "met": met, **found, "machine": {"others_share": others_share}}
    report_file.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    if met and not keep:
        shutil.rmtree(directory)
    else:
        console.print(f"\nlogs and store: {directory / name}", soft_wrap=True)
    if as_json:
        print_json(said)
    if not met:
        raise typer.Exit(1)


def _play_both(directory: Path, acts: Acts, seed: int, view: View) -> tuple[Run, Run]:
    view.say(
        f"The hot-user rule's cold start is cut from 120 s to {COLD_START_S:g} s for this demo; "
        f"the first {WARM_UP_S:g} s of each run are not measured."
    )
    measured = play("shadow", directory / "measuring", MEASURING, seed, view, connections=1)
    connections = connections_for(measured)
    view.say(f"on this machine the hot user buys on {connections} connections at once")
    shadow, protect = (
        play(mode, directory / mode, acts, seed, view, connections)
        for mode in ("shadow", "protect")
    )
    return shadow, protect


@contextmanager
def _removed_if_stopped(directory: Path, *, keep: bool) -> Iterator[None]:
    """Say where the logs are if a run fails; leave nothing behind if a person stops it."""
    try:
        yield
    except (ChildFailed, DemoFailed) as error:
        raise CliError(f"{error}\nlogs and stores are in {directory}") from error
    except KeyboardInterrupt:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _others_share(before: Processors | None) -> float:
    """The part of this machine that other work has had since then, 0 to 1."""
    after = Processors.now()
    return round(after.share_of_others(before), 3) if before and after else 0.0


def _told(
    console: Console, table: Table, checked: Sequence[Expectation], others_share: float
) -> bool:
    """Print figures and verdicts; whether all is met that other work lets one judge."""
    is_noisy = others_share > NOISY_SHARE
    console.print(table, verdicts(checked, is_noisy=is_noisy))
    if is_noisy:
        console.print(
            f"\nOther work took {others_share:.0%} of this machine meanwhile, so latencies say "
            "little about heatshield here: repeat the demo when the machine is quiet.",
            soft_wrap=True,
        )
    return all(one.met or (is_noisy and one.is_latency) for one in checked)


def _say_where(console: Console, report_file: Path, directory: Path, trace_id: str | None) -> None:
    data, heatshield = directory / "protect" / "data", _command()
    console.print(f"\nreport: {report_file}", soft_wrap=True)
    console.print(f"to read its data: {heatshield} up --data {data}", soft_wrap=True)
    if trace_id is not None:
        console.print(f"then, for the evidence: {heatshield} request {trace_id}", soft_wrap=True)


def _command() -> str:
    """The command line as this user can type it: in a checkout it is not on ``PATH``."""
    name = "heatshield"
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.exists():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
