"""Scenes of ``heatshield demo --scene``: what each sends, what it claims, and the figures for that.

Each is one run in protect. **Others** are all users but the one that a scene is about; **calm** are
their requests that were due after the warm-up and before it began, **during** those from a second
after each of its spells began (what was running when the user was slowed has ended by then) to the
end of the spell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from heatshield_stickershop.arrivals import PICTURE, PICTURES
from heatshield_stickershop.demo.events import Event
from heatshield_stickershop.demo.report import Expectation, Run, percentile
from heatshield_stickershop.demo.run import WARM_UP_S, Acts
from heatshield_stickershop.load import LoadSettings, Sent
from heatshield_stickershop.population import HOT_USER

__all__ = ["SCENES", "Play", "figures"]

SETTLED_S: Final = 2.0
"""Seconds from the first call of a spell after which the user must be slowed, and others well."""

PAUSE_S: Final = 40.0
"""Between two spells: what was refused counts as demand for 15 s, then demand must be low for ten
seconds, and six seconds of probes be clean."""

WELL: Final = 1.5
"""Others' p99 while a user is slowed is under this many times its value before."""

SPELL_S: Final = 10.0
CALM_S: Final = 9.0
SPELLS: Final = 3

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Play:
    """One scene.

    Attributes:
        about: in a few words.
        acts: its length.
        load: what is not as usual of the load.
        claims: checks its figures.
    """

    about: str
    acts: Acts
    load: Mapping[str, Any]
    claims: Callable[[Figures], list[Expectation]]


def figures(play: Play, run: Run) -> dict[str, Any]:
    """What came of a scene, as plain values for JSON: latencies in ms."""
    began_ns = run.measured_from_ns - round(WARM_UP_S * 1e9)
    settings = LoadSettings("", calm_s=play.acts.calm_s, hot_s=play.acts.hot_s, **play.load)
    spells = [
        (began_ns + round(since_s * 1e9), began_ns + round(until_s * 1e9))
        for since_s, until_s in settings.burning
    ]
    calm = run.others(run.measured_from_ns, spells[0][0])
    during = [
        sent
        for since_ns, until_ns in spells
        for sent in run.others(since_ns + round(SETTLED_S * 1e9), until_ns)
    ]
    hot = [sent for sent in run.sent if sent.hot]
    pictures = [sent for sent in run.sent if sent.route == PICTURE]
    changes = _changes(run.events)
    opened_ns = [at_ns for at_ns, change, _, _ in changes if change == "opened"]
    return {
        "others_p99_ms_calm": _p99(calm),
        "others_p99_ms_during": _p99(during),
        "others_refused": sum(one.refused for one in run.sent if not one.hot),
        "others_failed": sum(one.failed for one in run.sent if not one.hot),
        "others_requests": sum(not one.hot for one in run.sent),
        "spells": len(spells),
        "spells_slowed": sum(
            any(since <= at_ns < since + SETTLED_S * 1e9 for at_ns in opened_ns)
            for since, _ in spells
        ),
        "changes": [change for _, change, _, _ in changes],
        "first_steps": [mode for _, change, _, mode in changes if change == "opened"],
        "slowed_or_refused": sorted({str(user) for _, _, user, _ in changes}),
        "hot_user_through": sum(not (one.refused or one.failed) for one in hot),
        "hot_user_through_after_slowed": _through(hot, opened_ns, spells),
        "hot_user_told_to_wait": sum(
            one.status == HTTPStatus.TOO_MANY_REQUESTS for one in hot
        ),
        "hot_user_refused": sum(one.status == HTTPStatus.SERVICE_UNAVAILABLE for one in hot),
        "others_requests_during": sum(
            one.due_ns >= spells[0][0] for one in run.sent if not one.hot
        ),
        "pictures_due": _pictures_due(settings),
        "pictures": len(pictures),
        "pictures_loaded": sum(one.status == HTTPStatus.OK for one in pictures),
    }  # fmt: skip


def _pictures_due(settings: LoadSettings) -> int:
    if not settings.page_every_s:
        return 0
    return PICTURES * int((settings.seconds - settings.calm_s) / settings.page_every_s)


def _through(hot: Sequence[Sent], opened_ns: Sequence[int], spells: Sequence[Any]) -> list[int]:
    """Calls of the hot user that went through in each spell after it was slowed there."""
    found = []
    for since_ns, until_ns in spells:
        slowed = [at_ns for at_ns in opened_ns if since_ns <= at_ns < until_ns]
        from_ns = min(slowed, default=until_ns)
        mine = [one for one in hot if from_ns <= one.due_ns < until_ns]
        found.append(sum(not (one.refused or one.failed) for one in mine))
    return found


def _changes(events: Sequence[Event]) -> list[tuple[int, str, str, str]]:
    """When, what, whose and how: the changes of breakers that clients act on."""
    return [
        (
            event.at_ns,
            event.data["change"],
            event.data["entry"]["user"],
            event.data["entry"].get("mode", ""),
        )
        for event in events
        if event.name == "breaker" and event.data["entry"] and event.data["change"] in _MOVES
    ]


_MOVES: Final = frozenset({"opened", "escalated", "half_open", "closed"})


def _p99(sent: Sequence[Sent]) -> float | None:
    found = percentile((one.latency_ms for one in sent), 0.99)
    return None if found is None else round(found, 3)


def _nobody_else(found: Figures) -> Expectation:
    innocent = set(found["slowed_or_refused"]) - {HOT_USER}
    count = found["others_refused"] + len(innocent)
    return Expectation("nobody else is slowed or refused", count, count == 0, is_latency=False)


def _others_well(found: Figures) -> Expectation:
    calm, during = found["others_p99_ms_calm"], found["others_p99_ms_during"]
    times = round(during / calm, 2) if calm and during else None
    text = f"while the user goes on, others' p99 is under {WELL:g} times its value before"
    return Expectation(text, times, times is not None and times < WELL)


def _slowed_first(found: Figures) -> Expectation:
    steps = found["first_steps"]
    at_once = sum(mode != "pace" for mode in steps)
    text = "slowed before anything else: breakers that began otherwise"
    return Expectation(text, at_once, bool(steps) and not at_once, is_latency=False)


def _cycles(found: Figures) -> list[Expectation]:
    moves = [one for one in found["changes"] if one != "escalated"]
    through = found["hot_user_through_after_slowed"]
    return [
        Expectation(
            f"slowed within {SETTLED_S:g} s in each of {SPELLS} spells",
            found["spells_slowed"],
            found["spells_slowed"] == SPELLS,
        ),
        Expectation(
            "each spell opens, probes and closes once: moves",
            len(moves),
            moves == ["opened", "half_open", "closed"] * SPELLS,
        ),
        Expectation(
            "slowed, the user still gets calls through, at least",
            min(through),
            min(through) > 0,
            is_latency=False,
        ),
        _slowed_first(found),
        _others_well(found),
        _nobody_else(found),
    ]


def _endless(found: Figures) -> list[Expectation]:
    through = sum(found["hot_user_through_after_slowed"])
    return [
        Expectation(
            f"slowed within {SETTLED_S:g} s, and held: breakers opened",
            found["changes"].count("opened"),
            found["spells_slowed"] == 1 and found["changes"].count("opened") == 1,
        ),
        _slowed_first(found),
        Expectation(
            "slowed, the user still gets calls through", through, through > 0, is_latency=False
        ),
        _others_well(found),
        _nobody_else(found),
    ]


def _crowd(found: Figures) -> list[Expectation]:
    came, failed = found["others_requests_during"], found["others_failed"]
    usual = LoadSettings("").rate_per_s * SCENES["crowd"].acts.hot_s
    return [
        Expectation("the crowd came: times the usual", round(came / usual, 2), came >= 2 * usual),
        Expectation("requests that failed", failed, failed == 0, is_latency=False),
        _nobody_else(found),
    ]


def _page(found: Figures) -> list[Expectation]:
    missing = found["pictures_due"] - found["pictures_loaded"]
    return [
        Expectation("pictures that did not load", missing, missing == 0, is_latency=False),
        _nobody_else(found),
    ]


_CYCLE_S: Final = SPELL_S + PAUSE_S

SCENES: Final = {
    "cycles": Play(
        "three times on and off",
        Acts(CALM_S, SPELLS * _CYCLE_S),
        {
            "spells": tuple(
                (CALM_S + number * _CYCLE_S, CALM_S + number * _CYCLE_S + SPELL_S)
                for number in range(SPELLS)
            )
        },
        _cycles,
    ),
    "endless": Play("demand that does not stop for a minute", Acts(CALM_S, 60.0), {}, _endless),
    "crowd": Play(
        "all users come at once", Acts(CALM_S, 12.0), {"connections": 0, "surge": 2.5}, _crowd
    ),
    "page": Play(
        "one reader's pages of twelve pictures, on a shop that is nearly idle",
        Acts(CALM_S, 15.0),
        {"connections": 0, "rate_per_s": 2.0, "page_every_s": 5.0},
        _page,
    ),
}
"""By name."""
