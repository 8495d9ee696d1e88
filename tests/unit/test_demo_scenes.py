"""What the scenes of the demo claim, from recorded requests and events."""

import pytest

from heatshield_stickershop.arrivals import PICTURE
from heatshield_stickershop.demo.events import Event
from heatshield_stickershop.demo.report import Run
from heatshield_stickershop.demo.run import WARM_UP_S
from heatshield_stickershop.demo.scenes import SCENES, figures
from heatshield_stickershop.load import LoadSettings, Sent, _spells
from heatshield_stickershop.population import HOT_USER, READER

NS = 10**9
BEGAN_NS = 1_000 * NS


def sent(at_s, *, user="u-1", status=200, latency_ms=10.0, route="purchase"):
    return Sent(
        BEGAN_NS + round(at_s * NS), latency_ms, status, user, user == HOT_USER, route, None
    )


def moved(at_s, change, user=HOT_USER, mode="pace"):
    entry = {"id": "b-1-1", "user": user, "mode": mode}
    return Event(
        "breaker", {"at_ns": BEGAN_NS + round(at_s * NS), "change": change, "entry": entry}
    )


def run(requests, events=()):
    return Run("protect", requests, events, BEGAN_NS + round(WARM_UP_S * NS))


def others(until_s, slow=()):
    return [
        sent(at / 10, latency_ms=500.0 if any(a <= at / 10 < b for a, b in slow) else 10.0)
        for at in range(round(until_s * 10))
    ]


def judged(name, recorded):
    found = figures(SCENES[name], recorded)
    return found, [one.met for one in SCENES[name].claims(found)]


def cycles(*, through=True, skip=()):
    play = SCENES["cycles"]
    spells = LoadSettings("", calm_s=play.acts.calm_s, **play.load).burning
    events, hot = [], []
    for number, (since_s, _) in enumerate(spells):
        hot += [sent(since_s + 0.1 * n, user=HOT_USER, status=429) for n in range(100)]
        if through:
            hot.append(sent(since_s + 5, user=HOT_USER))
        if number in skip:
            continue
        steps = ((0.5, "opened"), (35.0, "half_open"), (41.0, "closed"))
        events += [moved(since_s + at_s, change) for at_s, change in steps]
    until_s = play.acts.calm_s + play.acts.hot_s
    return run([*others(until_s), *hot], events)


def test_cycles_are_met_where_each_spell_opens_probes_and_closes():
    found, met = judged("cycles", cycles())
    assert all(met)
    assert found["hot_user_through_after_slowed"] == [1, 1, 1]
    assert found["hot_user_told_to_wait"] == 300


@pytest.mark.parametrize(
    ("recorded", "failing"),
    [
        (cycles(skip=(1,)), {0, 1, 2}),
        (cycles(through=False), {2}),
        (Run("protect", cycles().sent, [*cycles().events, moved(12, "opened", "u-7")], 0), {1, 5}),
    ],
    ids=["a spell that is not slowed", "nothing goes through", "somebody else is slowed"],
)
def test_what_makes_cycles_fail(recorded, failing):
    recorded = Run("protect", recorded.sent, recorded.events, BEGAN_NS + round(WARM_UP_S * NS))
    _, met = judged("cycles", recorded)
    assert {at for at, one in enumerate(met) if not one} == failing


def test_endless_demand_must_leave_others_well_once_it_is_slowed():
    calm_s = SCENES["endless"].acts.calm_s
    hot = [sent(calm_s + n / 10, user=HOT_USER) for n in range(600)]
    events = [moved(calm_s + 0.5, "opened")]
    fine = run([*others(calm_s + 60, slow=[(calm_s, calm_s + 1.5)]), *hot], events)
    assert all(judged("endless", fine)[1])
    bad = run([*others(calm_s + 60, slow=[(calm_s + 20, calm_s + 40)]), *hot], events)
    assert judged("endless", bad)[1] == [True, True, True, False, True]
    twice = run(fine.sent, [*events, moved(calm_s + 30, "closed"), moved(calm_s + 31, "opened")])
    assert judged("endless", twice)[1] == [False, True, True, True, True]
    at_once = run(fine.sent, [moved(calm_s + 0.5, "opened", mode="reject")])
    assert judged("endless", at_once)[1] == [True, False, True, True, True]


def test_a_crowd_is_met_where_it_came_and_nobody_is_slowed_or_refused():
    calm_s, hot_s = SCENES["crowd"].acts.calm_s, SCENES["crowd"].acts.hot_s
    crowd = [*others(calm_s), *(sent(calm_s + n / 110) for n in range(round(110 * hot_s)))]
    assert all(judged("crowd", run(crowd))[1])
    assert judged("crowd", run(others(calm_s + hot_s)))[1] == [False, True, True]
    assert judged("crowd", run([*crowd, sent(15, status=500)]))[1] == [True, False, True]
    assert judged("crowd", run([*crowd, sent(15, status=429)]))[1] == [True, True, False]
    assert judged("crowd", run(crowd, [moved(15, "opened", "u-3")]))[1] == [True, True, False]


def test_a_page_is_met_where_every_picture_loads():
    def pictures(count, status=200):
        return [sent(9, user=READER, route=PICTURE, status=status) for _ in range(count)]

    assert all(judged("page", run(pictures(36)))[1])
    assert not all(judged("page", run([*pictures(35), *pictures(1, 503)]))[1])
    assert not all(judged("page", run(pictures(12)))[1])


def test_the_flags_of_a_load_are_read_back():
    settings = LoadSettings("http://x", spells=((9.0, 19.0), (43.0, 53.5)), connections=0)
    flags = dict(zip(settings.flags()[::2], settings.flags()[1::2], strict=True))
    assert _spells(flags["--spells"]) == settings.spells
    assert flags["--connections"] == "0"
    assert "--spells" not in LoadSettings("http://x").flags()
