"""What is done about hot users, as people are told, and when they hear that it is over."""

from pathlib import Path

import pytest
from control_platform import HOT, Platform

from heatshield.contract import PlatformMode
from heatshield_alerts.control_state import KeptControl
from heatshield_alerts.draft import Reason
from heatshield_alerts.notify import Notice, render
from heatshield_alerts.rules import SHIPPED_RULES, load_text
from heatshield_collector.detect import PANE_S


def test_it_is_said_of_every_hot_user_what_is_done():
    platform = Platform(cold_start_s=132.0).warm()
    said = platform.loop.outcomes
    platform.burn(1.0)
    waiting = "not cut: waiting for the cold start to end"
    assert [one.outcome.text for one in platform.loop.alerts] == [waiting]
    assert platform.notifier.done[-1] == waiting
    assert platform.loop.notes(platform.clock.now()) == [
        "cold start: rules trip no breaker for another 1 s"
    ]
    platform.burn(1.5)
    paced = said.text_of(HOT)
    assert paced.startswith("paced to 0.")
    assert [done for done in platform.notifier.done if done] == [waiting, paced]
    platform.burn(3.0)
    assert said.text_of(HOT) == "cut", "pacing did not end it"
    assert said.not_cut() == []
    assert platform.loop.notes(platform.clock.now()) == []
    for user in ("second", "third", "fourth"):
        for _ in range(8):
            platform.work(2.0, user)
            platform.step(workers=1.0)
    ((key, done),) = said.not_cut()
    assert (key.user, done) == ("fourth", f"not cut: {Reason.TOO_MANY_USERS}")
    told = {one.labels["user"]: one.outcome.text for one in platform.loop.alerts}
    assert (told["hot"], told["fourth"]) == ("cut", done)
    assert told["second"].startswith("paced to 0.")
    assert told["third"].startswith("paced to 0.")
    platform.breakers.set_mode(PlatformMode.SHADOW, "ann")
    assert said.text_of(HOT) == "would be cut, but the platform is in shadow"
    platform.burn(40.0, workers=0.0)
    assert said.not_cut() == []


def told(platform):
    return [one[0] for one in platform.notifier.alerts if one[0] != "pending"]


@pytest.mark.parametrize("mode", PlatformMode)
def test_resolved_is_told_once_the_user_is_no_longer_refused(mode):
    platform = Platform(mode).warm()
    platform.burn(2.0)
    title = render(Notice.of(platform.notifier.submitted[-1])).title
    word = "paced" if mode is PlatformMode.PROTECT else "shadow"
    assert title == f"[FIRING: {word}] HarmfulUser: hot shop POST /p"
    for _ in range(round(120 / PANE_S)):
        platform.step()
        ended = any(one["state"] == "resolved" for one in platform.events.of("alert"))
        if ended and platform.held() and mode is PlatformMode.PROTECT:
            assert told(platform) == ["firing"], "the user is still refused"
        elif ended:
            break
    assert told(platform) == ["firing", "resolved"]
    assert bool(platform.held()) is (mode is PlatformMode.SHADOW)


def test_a_user_who_burns_again_while_refused_is_not_told_resolved():
    platform = Platform().warm()
    platform.burn(2.0)
    while not any(one["state"] == "resolved" for one in platform.events.of("alert")):
        platform.step()
    assert platform.loop.held_back
    platform.burn(4.0)
    assert not platform.loop.held_back
    assert "resolved" not in told(platform)


def test_resolved_is_told_though_the_user_began_to_burn_again_for_a_moment():
    """Pending may come to nothing; then what was held back is still to be told."""
    text = Path(str(SHIPPED_RULES)).read_text(encoding="utf-8").replace("for: 0s", "for: 2s", 1)
    platform = Platform(rules=load_text(text, "slower.yaml")).warm()
    platform.burn(6.0)
    while not platform.loop.held_back:
        platform.step()
    platform.burn(0.5)
    states = [one["state"] for one in platform.events.of("alert")]
    assert states[-1] == "pending", states
    for _ in range(round(120 / PANE_S)):
        platform.step()
    assert not platform.held()
    assert told(platform) == ["firing", "resolved"]


def test_resolved_is_held_back_over_a_restart_too():
    first = Platform().warm()
    first.burn(2.0)
    while not first.loop.held_back:
        first.step()
    second = Platform()
    now = second.clock.now()
    second.breakers.restore(KeptControl(first.state), now)
    texts = {key: text for key, text in first.journal.kept["alert"].items() if text}
    alerts = second.loop.restore(texts, now)
    assert [one.labels for one in alerts] == list(second.loop.held_back)
    for key, _, held in second.breakers.held():
        assert key == HOT
        second.breakers.clear(held.id, "ann")
    second.loop.round(second.clock.now())
    assert told(second) == ["resolved"]
