"""The judge: what was decided about users, against what was true.

Whose harm is real is measured: the world is run once more with the same seed, without the
culprits and without the collector. A request of another user is *harmed* when it took more than
twice as long as the same request did there, and ten milliseconds more (or failed, or still runs
and has taken so long by now). Harm is real where a quarter of the others' requests of some second
are harmed. It begins with the last request that a culprit had sent when the first of these came
(what was open before had harmed nobody yet), or where the cold start ends.
"""

import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from heatshield_collector.settings import CollectorSettings
from heatshield_collector.worlds.collector import Decision
from heatshield_collector.worlds.scene import Scene
from heatshield_collector.worlds.telemetry import Mode
from heatshield_collector.worlds.world import Asked, World

__all__ = ["Judgement", "Suffering", "judge"]

LONGER: Final = 2.0
MORE_S: Final = 0.010
PART: Final = 0.25
"""Part of the others' requests of a second."""

LEAST: Final = 5
"""Requests of others in a second that can tell."""

STEP_S: Final = 0.25
LASTS_S: Final = (1.0, 2.0)
"""Harm that is there between so many seconds after a culprit was slowed was not ended by that."""


@dataclass(frozen=True, slots=True)
class Suffering:
    """How others fared.

    Attributes:
        began_s: of the first harmful request; ``None``: nobody was harmed.
        requests: of others since the scene began.
        harmed: those that were harmed.
        users: whom they are of.
        p95_ms: of others' requests, and
        p95_without_ms: in the world without the culprits.
    """

    began_s: float | None = None
    requests: int = 0
    harmed: int = 0
    users: int = 0
    p95_ms: float = 0.0
    p95_without_ms: float = 0.0


@dataclass(slots=True)
class Judgement:
    """What came of one scene and seed.

    Attributes:
        decisions: about users.
        findings: by class and user, the first of each.
        unprotected: how others fare if nothing is decided.
        protected: how others fared.
        paced: innocent users who were paced, though that is not fair in this scene.
        refused: innocent users who were refused.
        fair_paced: innocent users who were paced, which is fair in this scene.
        pace_s: by culprit seconds from the first harmful request to the decision to pace.
        refuse_s: the same to the decision to refuse.
        missed: culprits whose harm was real and whom nothing was decided about.
        lasting: pacing did not end the harm, so somebody had to be refused.
        not_refused: and nobody was.
        seconds: simulated.
        took_s: of real time.
        rss_mib: of the process, at most.
    """

    scene: str
    kind: str
    seed: int
    decisions: list[Decision] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    unprotected: Suffering = field(default_factory=Suffering)
    protected: Suffering = field(default_factory=Suffering)
    paced: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    fair_paced: list[str] = field(default_factory=list)
    pace_s: dict[str, float] = field(default_factory=dict)
    refuse_s: dict[str, float] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    lasting: bool = False
    not_refused: bool = False
    others_per_s: float = 0.0
    requests: int = 0
    failures: int = 0
    seconds: float = 0.0
    took_s: float = 0.0
    rss_mib: float = 0.0

    @property
    def real(self) -> bool:
        """Whether harm is real, if nothing is decided."""
        return self.unprotected.began_s is not None

    @property
    def passed(self) -> bool:
        """Whether all is as it should be, but for the times, which the whole suite is judged by."""
        return not (self.paced or self.refused or self.missed or self.not_refused or self.failures)

    def to_json(self) -> dict[str, Any]:
        """As a plain object."""
        said = asdict(self)
        said["decisions"] = [one._asdict() for one in self.decisions]
        return {**said, "real": self.real, "passed": self.passed}


def judge(
    scene: Scene, seed: int, seconds: float | None = None, mode: Mode | None = None,
    scale: float = 1.0,
) -> Judgement:  # fmt: skip
    """Run a scene and judge what was decided.

    Args:
        scene: to be run.
        seed: of its world.
        seconds: that it lasts, in place of the scene's own.
        mode: of telemetry, in place of the scene's own.
        scale: times as many ids, where the scene is about their number.
    """
    began = time.perf_counter()
    until_s = seconds or scene.seconds
    settings = CollectorSettings(mode="protect", cold_start_s=scene.cold_start_s)
    world = World(seed, mode or scene.mode, scene.faults, settings, scale=scale)
    scene.build(world)
    world.run(until_s)
    found = Judgement(scene.name, scene.kind, seed, seconds=until_s, requests=len(world.asked))
    collector = world.collector
    if collector is not None:
        found.decisions = collector.decisions(world.start_ns)
        found.findings = _first_findings(collector.simulation.rows["findings"], world.start_ns)
        found.failures = collector.simulation.failures
    if scene.culprits:
        without = _bare(scene, seed, until_s, scale, culprits=False)
        burnt = _bare(scene, seed, until_s, scale, culprits=True)
        found.unprotected = suffering(scene, burnt, without)
        found.protected = suffering(scene, world, without)
        found.lasting = _lasts(scene, world, without, found)
        others = [one for one in without.asked if one.sent_s >= scene.begins_s]
        found.others_per_s = len(others) / max(1.0, until_s - scene.begins_s)
    _sort_out(scene, found)
    found.took_s = time.perf_counter() - began
    found.rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _bare(scene: Scene, seed: int, until_s: float, scale: float, *, culprits: bool) -> World:
    """The world without a collector."""
    world = World(seed, None, culprits=culprits, scale=scale)
    scene.build(world)
    return world.run(until_s)


def suffering(scene: Scene, world: World, without: World) -> Suffering:
    """How others fared in a world, against the one without the culprits."""
    known = _pairs(scene, world, without)
    flags = np.array([_is_harmed(one, twin, world.now_s) for one, twin in known], dtype=bool)
    harmed = [one for (one, _), flag in zip(known, flags.tolist(), strict=True) if flag]
    return Suffering(
        began_s=_began_s(scene, world, [one.sent_s for one, _ in known], flags),
        requests=len(known),
        harmed=len(harmed),
        users=len({one.user for one in harmed}),
        p95_ms=_p95_ms(_latency_s(one, world.now_s) for one, _ in known),
        p95_without_ms=_p95_ms(twin.latency_s or 0.0 for _, twin in known),
    )


def _pairs(scene: Scene, world: World, without: World) -> list[tuple[Asked, Asked]]:
    """Others' requests in both worlds."""
    twins = {(one.source, one.number): one for one in without.asked}
    pairs = [
        (one, twins.get((one.source, one.number)))
        for one in world.asked
        if one.user not in scene.culprits and one.sent_s >= scene.begins_s
    ]
    return [(one, twin) for one, twin in pairs if twin is not None and twin.latency_s is not None]


def _lasts(scene: Scene, world: World, without: World, found: Judgement) -> bool:
    """Whether others are harmed although a culprit was slowed."""
    slowed_s = [
        one.at_s for one in found.decisions if one.change == "opened" and one.user in scene.culprits
    ]
    began_s = found.unprotected.began_s
    if began_s is None or not slowed_s:
        return False
    from_s, to_s = (max(began_s, min(slowed_s)) + seconds for seconds in LASTS_S)
    flags = [
        _is_harmed(one, twin, world.now_s)
        for one, twin in _pairs(scene, world, without)
        if from_s <= one.sent_s < to_s
    ]
    return len(flags) >= LEAST and sum(flags) >= PART * len(flags)


def _is_harmed(one: Asked, twin: Asked, now_s: float) -> bool:
    usual_s = twin.latency_s or 0.0
    longer = _latency_s(one, now_s) > max(LONGER * usual_s, usual_s + MORE_S)
    return longer or (one.status != twin.status and one.latency_s is not None)


def _latency_s(one: Asked, now_s: float) -> float:
    """Until the answer, or until now; a wait for a turn is no harm by another user."""
    took_s = now_s - one.sent_s if one.latency_s is None else one.latency_s
    return took_s - one.waited_s


def _p95_ms(seconds: Iterable[float]) -> float:
    found = list(seconds)
    return round(1e3 * float(np.quantile(found, 0.95)), 3) if found else 0.0


def _began_s(
    scene: Scene, world: World, sent_s: Sequence[float], harmed: np.ndarray
) -> float | None:
    """When the first harmful request was sent; ``None``: there was none."""
    sent = np.array(sent_s)
    if not harmed.any():
        return None
    for from_s in np.arange(scene.begins_s, world.now_s, STEP_S):
        here = (sent >= from_s) & (sent < from_s + 1.0)
        slow = here & harmed
        if here.sum() >= LEAST and slow.sum() >= PART * here.sum():
            return _harmful_s(scene, world, float(sent[slow].min()))
    return None


def _harmful_s(scene: Scene, world: World, harmed_s: float) -> float:
    """When the latest of the culprits' requests was sent that was open at a moment."""
    open_s = [
        one.sent_s
        for one in world.asked
        if one.user in scene.culprits
        and one.sent_s <= harmed_s
        and (one.latency_s is None or one.sent_s + one.latency_s >= harmed_s)
    ]
    return max(open_s, default=harmed_s)


def _sort_out(scene: Scene, found: Judgement) -> None:
    """Who was paced and refused, and when."""
    began_s = found.unprotected.began_s
    if began_s is not None:  # before, no rule acts: nothing is known of what is usual
        began_s = max(began_s, scene.cold_start_s)
    acted = [one for one in found.decisions if one.change in {"opened", "escalated"}]
    for one in acted:
        if one.user not in scene.culprits:
            if one.mode != "pace":
                to = found.refused
            elif one.user in scene.may_pace or "*" in scene.may_pace:
                to = found.fair_paced
            else:
                to = found.paced
            to += [] if one.user in to else [one.user]
        elif began_s is not None:
            seconds = round(one.at_s - began_s, 3)
            found.pace_s.setdefault(one.user, seconds)
            if one.mode != "pace":
                found.refuse_s.setdefault(one.user, seconds)
    if began_s is not None:
        found.missed = [user for user in scene.culprits if user not in found.pace_s]
        found.not_refused = found.lasting and not found.refuse_s


def _first_findings(rows: Sequence[dict[str, Any]], start_ns: int) -> list[dict[str, Any]]:
    """The first finding of each class and user."""
    first: dict[tuple[str, Any, str], dict[str, Any]] = {}
    for row in rows:
        first.setdefault((row["class"], row["user"], row["call"]), row)
    return [
        {
            "class": row["class"],
            "user": row["user"],
            "service": row["service"],
            "call": row["call"],
            "at_s": round((row["at_ns"] - start_ns) / 1e9, 3),
            "reason": row.get("reason", ""),
        }
        for row in first.values()
    ]
