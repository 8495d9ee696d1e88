"""The suite: all scenes with several seeds, on all processors, and the targets they must reach."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Final

import numpy as np

from heatshield_collector.worlds.judge import Judgement, judge
from heatshield_collector.worlds.scenes import SCENES
from heatshield_collector.worlds.telemetry import Mode

__all__ = ["Evaluation", "Target", "evaluation", "run", "text_of"]

DAY_S: Final = 86_400.0

ENOUGH_OTHERS: Final = 20.0
"""Requests of others a second at which times to decisions are promised."""

NEVER: Final = "never"
"""What did not happen took so long."""

SCENES_A_PROCESS: Final = 10
"""A process ends after so many, so that its memory is that of scenes, and not of their sum."""


@dataclass(frozen=True, slots=True)
class Target:
    """One figure, and what it must be."""

    name: str
    value: float | None
    most: float | None = None
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is; a figure without data is."""
        if self.value is None:
            return True
        low = self.least is None or self.value >= self.least
        return low and (self.most is None or self.value <= self.most)

    @property
    def said(self) -> float | str | None:
        """For people and JSON, which has no infinity."""
        return NEVER if self.value == np.inf else self.value

    @property
    def bound(self) -> str:
        """For people."""
        if self.least is not None:
            return f"≥ {self.least:g}"
        return "" if self.most is None else f"≤ {self.most:g}"


@dataclass(slots=True)
class Evaluation:
    """What the suite came to.

    Attributes:
        targets: figures.
        scenes: a row a scene.
    """

    targets: list[Target] = field(default_factory=list)
    scenes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every target is met."""
        return all(one.met for one in self.targets)

    def to_json(self) -> dict[str, Any]:
        """As a plain object."""
        return {
            "passed": self.passed,
            "targets": [
                {"name": one.name, "value": one.said, "target": one.bound, "met": one.met}
                for one in self.targets
            ],
            "scenes": self.scenes,
        }


def run(
    seeds: int, only: str = "", mode: Mode | None = None, processes: int | None = None
) -> list[Judgement]:
    """Judge scenes in processes of their own.

    Args:
        seeds: of each scene; of days one.
        only: scenes whose name has this, or whose kind it is.
        mode: of telemetry, in place of the scenes' own.
        processes: at once; by default as many as processors.
    """
    jobs = [
        (name, seed, mode)
        for name, scene in SCENES.items()
        if only in name or only == scene.kind
        for seed in range(1, (1 if scene.kind == "normal" else seeds) + 1)
    ]
    jobs.sort(key=lambda job: -SCENES[job[0]].seconds)
    if not jobs:
        return []
    # The executor of concurrent.futures may hang in Python 3.11 where its processes end.
    with get_context("spawn").Pool(processes, maxtasksperchild=SCENES_A_PROCESS) as pool:
        found = pool.map(_judge, jobs, chunksize=1)
    order = list(SCENES)
    return sorted(found, key=lambda one: (order.index(one.scene), one.seed))


def _judge(job: tuple[str, int, Mode | None]) -> Judgement:
    name, seed, mode = job
    return judge(SCENES[name], seed, mode=mode)


def evaluation(judgements: Sequence[Judgement]) -> Evaluation:
    """Compare with the targets."""
    real = [one for one in judgements if one.real]
    culprits = sum(len(SCENES[one.scene].culprits) for one in real)
    missed = sum(len(one.missed) for one in real)
    caught = culprits - missed
    innocent = [one for one in judgements if not one.real]
    paced, refused = (
        sum(len(getattr(one, name)) for one in judgements) for name in ("paced", "refused")
    )
    days = sum(one.seconds for one in innocent) / DAY_S
    seconds = _seconds([one for one in real if one.others_per_s >= ENOUGH_OTHERS], "pace_s")
    to_refuse = [min(one.refuse_s.values(), default=np.inf) for one in real if one.lasting]
    false = paced + refused
    targets = [
        Target("innocent users refused", refused, most=0),
        Target("innocent users paced, where that is not fair", paced, most=0),
        Target("precision", _part(caught, caught + false), least=0.99),
        Target("recall where harm is real", _part(caught, culprits), least=1.0),
        Target("first harmful request to pace, p50, s", _quantile(seconds, 0.5), most=0.4),
        Target("first harmful request to pace, p99, s", _quantile(seconds, 0.99), most=0.75),
        Target("to refuse, where pace does not end it, p99, s", _quantile(to_refuse, 0.99),
               most=2.5),
        Target("false trips a simulated day", _false_a_day(innocent, days)),
        Target("overloads that were told of", _told(judgements)),
        Target("evaluations that failed", sum(one.failures for one in judgements), most=0),
        Target("simulated days", round(days, 2)),
        Target("RSS of a process, MiB", round(max(one.rss_mib for one in judgements))),
    ]  # fmt: skip
    return Evaluation(targets, _rows(judgements))


def _told(judgements: Sequence[Judgement]) -> float | None:
    """Part of the worlds that are overloaded by no user in which that was found."""
    found = [
        any(row["class"] == "overload" for row in one.findings)
        for one in judgements
        if SCENES[one.scene].overload
    ]
    return _part(sum(found), len(found))


def _seconds(judgements: Iterable[Judgement], name: str) -> list[float]:
    return [seconds for one in judgements for seconds in getattr(one, name).values()]


def _part(some: float, whole: float) -> float | None:
    return round(some / whole, 4) if whole else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.quantile(values, q, method="higher")), 3) if values else None


def _false_a_day(judgements: Sequence[Judgement], days: float) -> float | None:
    trips = sum(len(one.paced) + len(one.refused) for one in judgements)
    return round(trips / days, 2) if days else None


def _rows(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """A row a scene, over its seeds."""
    by_scene: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        by_scene[one.scene].append(one)
    return [
        {
            "scene": name,
            "kind": found[0].kind,
            "about": SCENES[name].about,
            "seeds": len(found),
            "harm": sum(one.real for one in found),
            "missed": sum(bool(one.missed) for one in found),
            "lasting": sum(one.lasting for one in found),
            "pace_s": _quantile(_seconds(found, "pace_s"), 0.5),
            "pace_most_s": _quantile(_seconds(found, "pace_s"), 1.0),
            "refuse_s": _quantile(_seconds(found, "refuse_s"), 0.5),
            "paced": sum(len(one.paced) for one in found),
            "fair_paced": sum(len(one.fair_paced) for one in found),
            "refused": sum(len(one.refused) for one in found),
            "classes": sorted({row["class"] for one in found for row in one.findings}),
            "passed": all(one.passed for one in found),
            "took_s": round(sum(one.took_s for one in found), 1),
        }
        for name, found in by_scene.items()
    ]


_COLUMNS: Final = (
    ("scene", "scene"), ("seeds", "seeds"), ("harm", "harm is real"), ("missed", "missed"),
    ("lasting", "harm lasts"),
    ("pace_s", "slowed after s"), ("pace_most_s", "at most s"), ("refuse_s", "refused after s"),
    ("paced", "innocent slowed"), ("fair_paced", "slowed fairly"), ("refused", "innocent refused"),
)  # fmt: skip


def text_of(result: Evaluation, *, markdown: bool = False) -> str:
    """Both tables for people."""
    targets = [["figure", "value", "target", ""]] + [
        [one.name, _cell(one.said), one.bound, _verdict(one)] for one in result.targets
    ]
    scenes = [[title for _, title in _COLUMNS]] + [
        [_cell(row[name]) for name, _ in _COLUMNS] for row in result.scenes
    ]
    return "\n".join(_table(rows, markdown=markdown) for rows in (targets, scenes))


def _verdict(target: Target) -> str:
    return "" if not target.bound else "met" if target.met else "missed"


def _cell(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: list[list[str]], *, markdown: bool) -> str:
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        return "\n".join(lines) + "\n"
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return (
        "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        + "\n"
    )
