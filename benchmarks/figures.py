"""What a benchmark says: figures, each beside its target, as a table for people and as JSON.

A figure that falls short is shown as it is; nothing here fails a run.
"""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "Report", "Target", "machine", "main", "quantile", "show", "write_json"]

CONSOLE = Console(width=120)


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be: ``at most`` or ``at least`` a bound in the figure's unit."""

    sense: Literal["at most", "at least"]
    bound: float

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the bound."""
        return value <= self.bound if self.sense == "at most" else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.sense == 'at most' else '≥'} {_number(self.bound)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the number; NaN where nothing could be measured.
        unit: of the number and of its target.
        target: what it should be, if anything was promised.
    """

    name: str
    value: float
    unit: str
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """``met``, ``short``, or nothing where there is no target."""
        if self.target is None:
            return ""
        return "met" if self.target.met(self.value) else "short"


@dataclass(slots=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: as ``run.py --only`` has it.
        title: what it is about, in one line.
        figures: in the order in which they are shown.
        notes: what a reader must know to understand the figures.
    """

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, target: Target | None = None) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, float(value), unit, target))

    def to_json(self) -> dict[str, Any]:
        """As plain values; NaN becomes null."""
        rows = []
        for one in self.figures:
            value = None if math.isnan(one.value) else one.value
            target = None if one.target is None else str(one.target)
            rows.append({**asdict(one), "value": value, "target": target, "verdict": one.verdict})
        return {"name": self.name, "title": self.title, "figures": rows, "notes": self.notes}


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile; NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "processors": os.cpu_count() or 1,
        "processor": _processor_model(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "load_average": os.getloadavg()[0],
    }


def show(report: Report) -> None:
    """Print a report."""
    table = Table(title=f"{report.name}: {report.title}", title_justify="left")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("unit")
    table.add_column("target", justify="right")
    table.add_column("")
    for one in report.figures:
        colour = {"met": "green", "short": "red", "": "default"}[one.verdict]
        target = "" if one.target is None else str(one.target)
        verdict = f"[{colour}]{one.verdict}[/]"
        table.add_row(one.name, f"[{colour}]{_number(one.value)}[/]", one.unit, target, verdict)
    CONSOLE.print(table)
    for note in report.notes:
        CONSOLE.print(f"  {note}", style="dim", highlight=False)
    CONSOLE.print()


def write_json(path: Path, on: dict[str, Any], reports: Sequence[Report]) -> None:
    """Write what was found, with the machine it was found on."""
    found = {"machine": on, "reports": [report.to_json() for report in reports]}
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main(run: Callable[..., Report]) -> None:
    """Run one benchmark alone: ``python benchmarks/NAME.py [--quick]``."""
    show(run(quick="--quick" in sys.argv[1:]))


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
