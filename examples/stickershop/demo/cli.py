"""``heatshield demo``: run the sticker shop without protection, then with it."""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from heatshield.cli.errors import CliError
from heatshield.cli.terminal import print_json
from stickershop.demo.report import Run, expectations, report
from stickershop.demo.run import COLD_START_S, WARM_UP_S, Acts, DemoFailed, play
from stickershop.demo.view import View, result_table, verdicts, view_for
from stickershop.processes import ChildFailed

__all__ = ["demo"]

SECONDS: Final = 24.0
"""Load in each of the two runs: enough requests for a p99 before and during the hot user's load."""

FEWEST_SECONDS: Final = 12.0

BUSY_SHARE: Final = 0.4
"""Load average per core, before the demo starts, that counts as busy: the demo needs about half of
two cores for itself."""

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
        bool, typer.Option("--keep", help="Keep the stores and logs of both runs.")
    ] = False,
) -> None:
    """Run the sticker shop twice, one hot user among hundreds: without protection, then with it.

    Exits with 1 if an expectation is not met, and shows which.
    """
    console = Console(stderr=as_json, highlight=False)
    directory = Path(tempfile.mkdtemp(prefix="heatshield-demo-"))
    # SIGTERM must end the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        shadow, protect = _play_both(directory, Acts.of(seconds), seed, view_for(console))
    except KeyboardInterrupt:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    found = report(shadow, protect)
    report_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    checked = expectations(found)
    met = all(one.met for one in checked)
    console.print(result_table(found), verdicts(checked))
    _say_where(console, report_file, directory, found["protect"]["evidence_trace_id"])
    if met and not keep:
        shutil.rmtree(directory / "shadow")
    if as_json:
        print_json(found)
    if not met:
        raise typer.Exit(1)


def _play_both(directory: Path, acts: Acts, seed: int, view: View) -> tuple[Run, Run]:
    view.say(
        f"The hot-user rule's cold start is cut from 120 s to {COLD_START_S:g} s for this demo; "
        f"the first {WARM_UP_S:g} s of each run are not measured."
    )
    _say_if_busy(view)
    try:
        shadow, protect = (
            play(mode, directory / mode, acts, seed, view) for mode in ("shadow", "protect")
        )
    except (ChildFailed, DemoFailed) as error:
        raise CliError(f"{error}\nlogs and stores are in {directory}") from error
    return shadow, protect


def _say_if_busy(view: View) -> None:
    """Warn if other work on this machine will add to the latencies."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY_SHARE * cores:
        view.say(
            f"This machine is busy with other work (load average {load:.1f} on {cores} cores): "
            "every latency below includes that."
        )


def _say_where(console: Console, report_file: Path, directory: Path, trace_id: str | None) -> None:
    data = directory / "protect" / "data"
    console.print(f"\nreport: {report_file}", soft_wrap=True)
    console.print(f"to read its data: heatshield up --data {data}", soft_wrap=True)
    if trace_id is not None:
        console.print(f"then, for the evidence: heatshield request {trace_id}", soft_wrap=True)
