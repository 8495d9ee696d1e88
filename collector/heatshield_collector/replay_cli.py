"""``heatshield replay``: what recorded spans would have led to, before anyone turns protect on."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from heatshield.cli.errors import CliError
from heatshield.cli.options import AsJson
from heatshield.contract import PlatformMode

if TYPE_CHECKING:
    from heatshield_alerts.policy import Policy
    from heatshield_alerts.rules import RuleGroup
    from heatshield_collector.backtest import Outcome
    from heatshield_collector.recordings import Problem, SortedSpans
    from heatshield_collector.settings import CollectorSettings

__all__ = ["capacities_of", "moment_ns", "replay"]

USAGE: Final = 2
"""Exit code of wrong usage."""

PROBLEMS_TOLD: Final = 20
"""Parts of recordings that were left out, told one by one; the others are counted."""

TOLD_EVERY_S: Final = 0.5
"""Seconds between two lines of progress."""

_NS: Final = 10**9
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MOST_DIGITS_S: Final = 11
"""Digits of a time in seconds since the epoch; one with more is in nanoseconds."""


def replay(  # noqa: PLR0913, PLR0917  each is a flag
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…",
            help="Recordings, merged by time: OTLP JSON (one request a line), OTLP protobuf (each "
            "message after its length), Zipkin v2 JSON; also compressed by gzip or zstd.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Instead of files, what the store has: 2026-11-30T14:00, seconds since the epoch, "
            "or 2h for two hours ago.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Until then; by default until now."),
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rules", metavar="FILE", help="Prometheus rules beside the shipped ones."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="FILE", help="What rules may do.")
    ] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(
            "--workers",
            metavar="SERVICE=N",
            help="Requests that a service can compute at once; may be given for each service.",
        ),
    ] = None,
    cold_start_s: Annotated[
        float,
        typer.Option(
            "--cold-start-s",
            min=0,
            help="Seconds from the recording's start in which no user may be tripped.",
        ),
    ] = 0.0,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Folder of the store.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Instead of ./heatshield.toml."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play recorded spans through detection, rules and policy, and print what would have been
    found and cut, when and why.

    Nothing is cut, no service is asked, and the hours of a recording take seconds. A store that a
    collector has open can't be read: stop it, or replay a copy of its folder.
    """
    # long: most of it declares the flags
    from heatshield_alerts.policy import PolicyError
    from heatshield_alerts.rules import RuleError
    from heatshield_collector.backtest import backtest
    from heatshield_collector.cli import settings_of
    from heatshield_collector.recordings import RecordingError, SortedSpans, little_garbage

    if bool(files) == bool(since):
        raise CliError("name recordings, or a time by --since; not both", USAGE)
    settings = settings_of(
        config,
        data=data,
        mode=PlatformMode.PROTECT.value,
        cold_start_s=cold_start_s,
        rules=rules or None,
        policy=policy,
    )
    capacities = capacities_of(workers or ())
    problems = _Problems()
    try:
        groups, bounds = _rules(settings), _policy(settings)
        with SortedSpans() as spans, _progress() as progress, little_garbage(), _errors_only():
            if files:
                _read_files(files, spans, problems, progress)
            else:
                _read_store(settings, str(since), until, spans)
            test = partial(backtest, spans, settings, groups, capacities, bounds)
            outcome = test(_told_of(spans, progress))
    except (RecordingError, RuleError, OSError) as error:  # such as a full disk
        raise CliError(str(error)) from error
    except PolicyError as error:
        raise CliError("; ".join(error.errors)) from error
    problems.sum_up()
    if outcome.failures:
        typer.echo(f"{outcome.failures} evaluations of rules failed", err=True)
    _show(outcome, as_json=as_json)


def capacities_of(said: Sequence[str]) -> dict[str, float]:
    """Read ``SERVICE=N``.

    Raises:
        CliError: one is not of that form.
    """
    found = {}
    for one in said:
        service, equals, number = one.rpartition("=")
        try:
            found[service] = float(number)
        except ValueError:
            equals = ""
        if not equals or not service or not 0 < found[service] < float("inf"):
            raise CliError(f"--workers {one}: say SERVICE=N, N more than 0", USAGE)
    return found


def moment_ns(said: str, now_ns: int) -> int:
    """Read a time: ISO 8601 (UTC where it names no zone), seconds since the epoch, or an age.

    Returns:
        Nanoseconds since the Unix epoch.

    Raises:
        CliError: it is none of them.
    """
    if age := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", said):
        return now_ns - round(float(age[1]) * _UNITS_S[age[2]] * _NS)
    if re.fullmatch(r"\d+(?:\.\d+)?", said):
        digits = len(said.partition(".")[0])
        return round(float(said) * _NS) if digits <= _MOST_DIGITS_S else int(float(said))
    try:
        moment = datetime.fromisoformat(said)
    except ValueError as error:
        raise CliError(f"{said} is no time: say 2026-11-30T14:00, 2h, or seconds", USAGE) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * _NS)


class _Problems:
    """Tells of what is left out, of the first ones at once."""

    def __init__(self) -> None:
        self._parts = self._spans = 0

    def tell(self, problem: "Problem") -> None:
        from heatshield.cli.terminal import safe

        self._parts += 1
        self._spans += problem.spans
        if self._parts <= PROBLEMS_TOLD:
            typer.echo(f"left out: {safe(problem)}", err=True)

    def sum_up(self) -> None:
        if self._parts:
            known = f", {self._spans:,} spans of which are known" if self._spans else ""
            typer.echo(f"{self._parts:,} parts of the recording were left out{known}", err=True)


class _Progress:
    """One line on a terminal's stderr; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._last_s = time.monotonic()
        self._length = 0

    def tell(self, line: str) -> None:
        now_s = time.monotonic()
        if self._shown and now_s - self._last_s >= TOLD_EVERY_S:
            self._last_s = now_s
            sys.stderr.write("\r" + line.ljust(self._length))
            sys.stderr.flush()
            self._length = len(line)

    def clear(self) -> None:
        if self._length:
            sys.stderr.write("\r" + " " * self._length + "\r")
            sys.stderr.flush()


@contextmanager
def _progress() -> Iterator[_Progress]:
    progress = _Progress()
    try:
        yield progress
    finally:
        progress.clear()


@contextmanager
def _errors_only() -> Iterator[None]:
    """Keep back a collector's warnings, which tell nothing of a recording: four times a second."""
    log = logging.getLogger("heatshield_collector")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _read_files(
    files: Sequence[Path], spans: "SortedSpans", problems: _Problems, progress: _Progress
) -> None:
    from heatshield_collector.recordings import read_recordings

    size = sum(file.stat().st_size for file in files if file.is_file()) or 1
    read_recordings(
        files,
        spans,
        problems.tell,
        lambda read, count: progress.tell(f"reading {read / size:.0%}, {count:,} spans"),
    )


def _read_store(
    settings: "CollectorSettings", since: str, until: str | None, spans: "SortedSpans"
) -> None:
    from heatshield_collector.recordings.problems import RecordingError
    from heatshield_collector.recordings.stored import read_store
    from heatshield_collector.store import DuckDBStore, StoreError

    now_ns = time.time_ns()
    folder = Path(settings.data)
    if not folder.is_dir():
        raise RecordingError(f"no store in {folder}: name its folder by --data")
    try:
        store = DuckDBStore(folder)
    except StoreError as error:
        raise RecordingError(str(error)) from error
    try:
        end_ns = moment_ns(until, now_ns) if until else now_ns
        read_store(store, moment_ns(since, now_ns), end_ns, spans)
    finally:
        store.close()


def _told_of(spans: "SortedSpans", progress: _Progress) -> Callable[[int, float], None]:
    began_s = time.monotonic()

    def told(count: int, virtual_s: float) -> None:
        speed = count / max(time.monotonic() - began_s, 1e-3)
        progress.tell(
            f"replaying {count / spans.spans:.0%}, {virtual_s / 60:,.1f} virtual minutes, "
            f"{speed:,.0f} spans/s"
        )

    return told


def _policy(settings: "CollectorSettings") -> "Policy | None":
    from heatshield_alerts.policy import load_file

    return load_file(Path(settings.policy)) if settings.policy else None


def _rules(settings: "CollectorSettings") -> "list[RuleGroup]":
    from heatshield_alerts.rules import SHIPPED_RULES, load_file

    names = (str(SHIPPED_RULES), *settings.rules)
    return [group for name in names for group in load_file(Path(name))]


def _show(outcome: "Outcome", *, as_json: bool) -> None:
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json(outcome.to_json())
        return
    from heatshield.cli.tables import span_text
    from heatshield_collector.replay_tables import finding_table, trip_table

    typer.echo(f"{outcome.spans:,} spans of {span_text(outcome.virtual_seconds)}")
    out: Any = console()
    if outcome.trips:
        out.print(trip_table(outcome))
    else:
        typer.echo("nobody would have been slowed or refused")
    if outcome.findings:
        out.print(finding_table(outcome))
    else:
        typer.echo("nothing would have been found")
