"""All benchmarks, or one: ``python benchmarks/run.py [--only NAME] [--quick] [--json FILE]``.

Each prints its figures beside their targets. A figure that falls short is printed as it is; the
exit status only says whether everything could be measured.
"""

import argparse
from pathlib import Path
from typing import Final

import blackhole
import charges
import checks
import detect
import enforcement
import fleet
import ingest
import instrumentation
import quiet_hour
import recordings
import stations
import users
import watchers
from figures import CONSOLE, machine, show, write_json

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: Final = {
    "ingest": ingest.run,
    "users": users.run,
    "enforcement": enforcement.run,
    "watchers": watchers.run,
    "fleet": fleet.run,
    "checks": checks.run,
    "instrumentation": instrumentation.run,
    "charges": charges.run,
    "blackhole": blackhole.run,
    "quiet_hour": quiet_hour.run,
    "detect": detect.run,
    "recordings": recordings.run,
    "stations": stations.run,
}
PART_OF_ANOTHER: Final = "stations"
"""Runs within ``ingest``; alone only when it is asked for."""


def main() -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=sorted(BENCHMARKS), help="one benchmark")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; noisier")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    flags = parser.parse_args()
    here = machine()
    CONSOLE.print(" · ".join(f"{name} {value}" for name, value in here.items()), highlight=False)
    CONSOLE.print()
    reports = []
    for name in [flags.only] if flags.only else [n for n in BENCHMARKS if n != PART_OF_ANOTHER]:
        reports.append(BENCHMARKS[name](quick=flags.quick))
        show(reports[-1])
        if flags.json:
            write_json(flags.json, here, reports)


if __name__ == "__main__":
    main()
