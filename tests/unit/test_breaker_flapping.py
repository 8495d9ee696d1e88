"""A key that opens often is held longer each time; it is never left open, nor moves too often."""

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield.contract import BreakerMode
from heatshield_alerts import BreakerControl, BreakerState, ChangeKind, Draft, Reason
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.held_breaker import COOL_S, HALF_OPEN_S
from heatshield_alerts.restraint import FREE_OPENINGS, MAX_MOVES, MOVES_WINDOW_S
from heatshield_alerts.seen import Seen

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
ROUND_S = 0.25
PACED = {"mode": BreakerMode.PACE, "then": BreakerMode.REJECT, "budget": 0.1}


def draft(issuer: str = "rule:HarmfulUser", **fields) -> Draft:
    return Draft(KEY, issuer, **{"threshold": 0.9, "cost_per_call": 0.1, "reason": "hot", **fields})


class Flapping:
    """A user who burns at once whenever nothing, or only probing, is in the way.

    Args:
        returns: in which state of the breaker the user comes back.
        fields: of what the rule asks for.
    """

    def __init__(self, returns: BreakerState, **fields) -> None:
        self.control = BreakerControl(epoch=1)
        self.returns, self.asked = returns, draft(**fields)
        self.now = 0.0
        self.changes = []

    @property
    def state(self) -> BreakerState:
        return self.control.held[0].state if self.control.held else BreakerState.CLOSED

    def flap(self, until_s: float) -> "Flapping":
        while self.now < until_s:
            self.now += ROUND_S
            if self.state is self.returns or self.state is BreakerState.CLOSED:
                self.changes.append(self.control.trip(self.asked, self.now, 10_000))
            self.tick()
        return self

    def rest(self, seconds: float) -> "Flapping":
        for _ in range(round(seconds / ROUND_S)):
            self.now += ROUND_S
            self.tick()
        return self

    def tick(self, *, harm: bool = False) -> None:
        seen = Seen({KEY: 2.0}, lasting={KEY: "it harms others"}) if harm else Seen({})
        self.changes += self.control.tick(self.now, seen)

    def at(self, kind: ChangeKind) -> list[float]:
        return [one.at_s for one in self.changes if one.kind is kind and one.is_recorded]

    def moves(self) -> list[float]:
        return [one.at_s for one in self.changes if one.before is not one.after]


def held_for(made: Flapping) -> list[float]:
    """How long each opening was held before it half-opened."""
    return [
        half - at
        for at, half in zip(made.at(ChangeKind.OPENED), made.at(ChangeKind.HALF_OPEN), strict=False)
    ]


def test_from_the_fourth_opening_on_the_time_for_which_demand_must_be_low_doubles():
    made = Flapping(BreakerState.HALF_OPEN).flap(60)
    assert len(made.at(ChangeKind.OPENED)) == FREE_OPENINGS + 2
    assert held_for(made) == pytest.approx([COOL_S] * FREE_OPENINGS + [2 * COOL_S], abs=2 * ROUND_S)
    assert made.control.held[0].cool_s == 4 * COOL_S


@pytest.mark.parametrize("returns", [BreakerState.HALF_OPEN, BreakerState.CLOSED])
def test_a_key_that_flaps_for_an_hour_is_never_let_be_and_moves_seldom(returns):
    """Its user comes back at once, and so is at large for a round each time."""
    made = Flapping(returns).flap(3_600)
    assert made.at(ChangeKind.REFUSED) == []
    moves = made.moves()
    assert all(b - a > MOVES_WINDOW_S for a, b in zip(moves, moves[MAX_MOVES:], strict=False))


def test_the_audit_says_that_a_key_is_held_longer_and_why():
    made = Flapping(BreakerState.CLOSED).flap(120)
    *usual, longer = [one.text for one in made.changes if one.kind is ChangeKind.OPENED]
    assert usual == ["hot"] * FREE_OPENINGS
    assert longer.startswith(
        "hot; held longer, as the key opened 4 times and moved 10 times in ten minutes: "
        "until demand is low for 20 s, and for "
    )
    heated = Flapping(BreakerState.HALF_OPEN).flap(60)
    texts = [one.text for one in heated.changes if one.kind is ChangeKind.OPENED]
    assert ["held longer" in text for text in texts] == [False, False, False, True, True]


def test_what_heats_under_the_probes_is_held_longer_too():
    made = Flapping(BreakerState.HALF_OPEN).flap(45)
    assert made.state is BreakerState.OPEN
    while made.state is BreakerState.OPEN:
        made.rest(ROUND_S)
    made.now += ROUND_S
    (heated,) = made.control.tick(made.now, Seen({KEY: 2.0}))
    assert heated.event == "heated"
    assert "held longer, as the key opened 5 times" in heated.text


def test_after_the_last_time_a_key_closes_within_the_window_and_then_is_as_any_other():
    made = Flapping(BreakerState.CLOSED).flap(120)
    made.rest(MOVES_WINDOW_S + HALF_OPEN_S - 60)
    assert made.state is BreakerState.CLOSED
    made.rest(MOVES_WINDOW_S)
    again = made.control.trip(draft(), made.now, 10_000)
    assert again.text == "hot"
    assert made.control.held[0].cool_s == COOL_S


def refused_for_longer() -> Flapping:
    """A user who is refused, not only paced, when the key opens for the fourth time."""
    made = Flapping(BreakerState.CLOSED, **PACED).flap(60)
    while made.control.held[0].entry.mode is BreakerMode.PACE:
        made.now += ROUND_S
        made.tick(harm=True)
    return made


def test_a_refused_user_who_is_held_longer_is_paced_meanwhile():
    made = refused_for_longer()
    begun, entry = len(made.changes), made.control.held[0].entry
    made.rest(COOL_S + 1)
    (eased,) = made.changes[begun:]
    assert (eased.kind, eased.event, eased.is_visible) == (ChangeKind.RENEWED, "eased", True)
    assert eased.text.startswith("eased to pace: ")
    assert (eased.entry.id, eased.entry.mode, eased.entry.budget) == (entry.id, "pace", 0.1)
    assert eased.before is eased.after is BreakerState.OPEN


def test_an_eased_user_who_harms_again_is_refused_again_after_two_seconds_and_not_sooner():
    made = refused_for_longer().rest(COOL_S + 1)
    begun, at_s = len(made.changes), made.now
    while made.now < at_s + 30.0:
        made.now += ROUND_S
        made.tick(harm=True)
    assert [one.event for one in made.changes[begun:]] == ["escalated"]
    eased_s = next(one.at_s for one in made.changes if one.event == "eased")
    assert made.changes[-1].at_s - eased_s >= 2.0


def test_a_user_whom_the_policy_refuses_at_once_is_refused_for_as_long_as_held():
    made = Flapping(BreakerState.CLOSED).flap(60).rest(COOL_S + 5)
    assert made.state is BreakerState.OPEN
    assert [one.event for one in made.changes].count("eased") == 0
    assert made.control.held[0].entry.mode is BreakerMode.REJECT


def test_a_restart_forgets_neither_how_long_a_key_is_held_nor_how_often_it_opened():
    made = refused_for_longer()
    (before,) = made.control.held
    at = Instant(made.now, 1_700_000_000_000_000_000)
    again = BreakerControl(epoch=2)
    kept = made.control.keep(at)
    again.restore(KeptControl(kept), at)
    (after,) = again.held
    assert (after.cool_s, after.draft.first) == (before.cool_s, BreakerMode.PACE) != (COOL_S, None)
    assert again.checks.restraint.damping(KEY, at.monotonic_s).openings == FREE_OPENINGS + 1
    del kept["held"][0]["cool_s"], kept["restraint"]["openings"]  # as older versions wrote it
    older = BreakerControl(epoch=3)
    older.restore(KeptControl(kept), at)
    assert older.held[0].cool_s == COOL_S


def test_a_key_that_people_open_and_close_again_and_again_is_left_alone_at_last():
    """What ends an entry at once, such as a person, can't be made to wait: opening is refused."""
    control = BreakerControl(epoch=1)
    for n in range(MAX_MOVES // 2):
        entry = control.trip(draft("human:ann"), float(n)).entry
        control.clear(entry.id, "ann", float(n))
    assert control.trip(draft("human:ann"), 60.0).reason is Reason.FLAPPING
    assert control.trip(draft("human:ann"), 60.0 + MOVES_WINDOW_S).reason is None
