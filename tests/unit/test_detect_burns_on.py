"""A user is hot for as long as the burning lasts, and no longer."""

from control_platform import HOT, Platform

from heatshield.contract import PlatformMode
from heatshield_collector.detect import hot_user
from heatshield_collector.detect.harm.harmful_user import HARMFUL


def is_hot(platform):
    return any(one.klass == HARMFUL and one.key == HOT for one in platform.loop.findings)


def hot_seconds(platform, seconds, workers):
    found = 0
    for _ in range(seconds):
        platform.burn(1.0, workers=workers)
        found += is_hot(platform)
    return found


def test_what_a_hot_user_does_is_not_taken_for_usual():
    platform = Platform(PlatformMode.SHADOW).warm()
    assert hot_seconds(platform, 200, workers=2.0) >= 199
    assert hot_seconds(platform, 20, workers=0.0) <= 11  # the slow rule looks at ten seconds


def test_what_goes_on_for_an_hour_is_the_new_usual(monkeypatch):
    monkeypatch.setattr(hot_user, "FROZEN_S", 30.0)
    platform = Platform(PlatformMode.SHADOW).warm()
    assert hot_seconds(platform, 60, workers=2.0) >= 59
    platform.burn(60.0, workers=2.0)
    assert hot_seconds(platform, 30, workers=2.0) == 0


def test_who_pauses_is_measured_by_the_whole_past_again():
    platform = Platform(PlatformMode.SHADOW).warm()
    platform.burn(120.0, workers=2.0)
    platform.burn(30.0, workers=0.0)
    assert hot_seconds(platform, 5, workers=2.0) == 0
