"""What people and instances ask of the breaker state, and what comes of it."""

from dataclasses import replace

import pytest
from control_platform import BASE, Platform

from heatshield.breakers.lease_table import BreakerTable
from heatshield.contract import (
    BreakerMode,
    PlatformMode,
    Rejections,
    Report,
    Snapshot,
)
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings
from heatshield_collector.control.breakers import STALLED_S
from heatshield_collector.ports import TripRefusedError, TripRequest


def trip(**fields):
    return TripRequest("u", "shop", "POST /p", issuer="human:ana", **fields)


def test_a_person_s_trip_and_clear_are_granted_audited_and_woken_for():
    platform = Platform()
    woken = []
    unsubscribe = platform.breakers.subscribe(lambda: woken.append(platform.breakers._control.at))
    entry = platform.breakers.trip(trip(reason="too much"))
    assert entry.issuer == "human:ana"
    assert platform.breakers.clear(entry.id, "ana") == entry
    assert platform.breakers.clear(entry.id, "ana") is None
    assert [str(at) for at in woken] == ["3.1", "3.2"]
    unsubscribe()
    platform.breakers.trip(trip(reason="again"))
    assert len(woken) == 2
    audit = platform.journal.of("audit")
    assert [(row["change"], row["issuer"], row["version"]) for row in audit] == [
        ("opened", "human:ana", "3.1"),
        ("cleared", "human:ana", "3.2"),
        ("refused", "human:ana", "3.2"),
        ("opened", "human:ana", "3.3"),
    ]
    assert audit[0]["entry"]["user"] == "u"
    assert [one["change"] for one in platform.events.of("breaker")] == [
        "opened", "cleared", "refused", "opened",
    ]  # fmt: skip


def test_a_person_s_impossible_trip_is_refused_with_its_reason():
    platform = Platform()
    with pytest.raises(TripRefusedError, match="wildcards"):
        platform.breakers.trip(TripRequest("u", "*", "POST /p", issuer="human:ana"))
    with pytest.raises(ValueError, match="user: the scope user_call needs it"):
        TripRequest("", "shop", "POST /p", issuer="human:ana")
    assert platform.breakers.snapshot().entries == ()


@pytest.mark.parametrize("user", ["unknown", "*", "u" * 257, "Юрий", "李", "a\x00b", "hs1-x"])
@pytest.mark.parametrize("call", ["POST /p", "GET /" + "x" * 300])
def test_a_user_of_any_name_can_be_cut_by_hand_and_in_a_service(user, call):
    """No user is ``None``, in breaker control as in the table of a service."""
    platform = Platform()
    entry = platform.breakers.trip(TripRequest(user, "shop", call, issuer="human:ana"))
    table = BreakerTable("shop")
    table.apply(Snapshot.from_json(platform.breakers.snapshot().to_json()), sent_at=0.0)
    acting = Identity(ServiceSettings()).known_as(user)
    assert table.decide(acting, call, 1.0).entry == entry
    assert not table.decide(acting, call, 1.0).allowed
    assert table.decide(None, call, 1.0).allowed


def test_the_mode_changes_once_is_audited_and_everybody_is_woken():
    platform = Platform()
    woken = []
    platform.breakers.subscribe(lambda: woken.append(1))
    platform.breakers.set_mode(PlatformMode.SHADOW, "ana")
    platform.breakers.set_mode(PlatformMode.SHADOW, "ana")
    assert platform.breakers.mode() is PlatformMode.SHADOW
    assert woken == [1]
    assert [one["mode"] for one in platform.events.of("mode")] == ["shadow"]
    assert [row["change"] for row in platform.journal.of("audit")] == ["mode"]
    assert platform.breakers.delta_since(BASE).mode is PlatformMode.SHADOW


def test_capacity_is_the_workers_of_live_instances_and_reports_keep_them_alive():
    platform = Platform()
    assert platform.breakers.capacities() == {"shop": 8.0}
    platform.clock.advance(25)
    platform.breakers.report(Report("shop", "i-1", 6, None, ()))
    platform.breakers.attend("talk", "t-1", 2)
    assert platform.breakers.capacities() == {"shop": 8.0, "talk": 2.0}
    platform.clock.advance(25)
    assert platform.breakers.capacities() == {"shop": 6.0, "talk": 2.0}


def test_an_instance_is_announced_when_it_appears_and_when_it_says_what_it_applies():
    platform = Platform()
    platform.breakers.attend("shop", "i-1", 4)
    platform.breakers.report(Report("shop", "i-9", 1, BASE, ()))
    appeared = [one["instance"] for one in platform.events.of("instance")]
    assert appeared == ["i-1", "i-2", "i-9"]
    (applied,) = platform.events.of("applied")
    assert (applied["service"], applied["instance"], applied["applied"]) == ("shop", "i-9", "3.0")


def test_rejections_that_are_reported_again_count_once():
    """The answer to the first report got lost; a first copy may also arrive after the second."""
    platform = Platform()
    entry = platform.breakers.trip(trip())
    row = Rejections(entry.id, 10, entry.user, entry.service, entry.call)

    def report(number, instance="i-1"):
        platform.breakers.report(Report("shop", instance, 4, None, (row,), number))
        return sum(count for _, _, count in platform.rejected)

    assert [report(1), report(1), report(2), report(1)] == [10, 10, 20, 20]
    assert report(1, "i-2") == 30, "each instance counts for itself"
    assert [report(0), report(0)] == [40, 50], "a client that does not number them"


def test_instances_whose_kill_switch_is_thrown_are_counted_until_they_say_otherwise():
    platform = Platform()

    def say(instance, *, enforcing):
        platform.breakers.report(Report("shop", instance, 1, None, enforcing=enforcing))

    say("i-1", enforcing=False)
    say("i-2", enforcing=True)
    assert platform.breakers.not_enforcing() == 1
    platform.breakers.attend("shop", "i-1")  # a batch of spans says nothing of it
    assert platform.breakers.not_enforcing() == 1
    say("i-1", enforcing=True)
    assert platform.breakers.not_enforcing() == 0


def test_a_round_that_hangs_holds_no_user_past_what_was_granted():
    """Reports of clients end what is over: they go on coming, and so do renewals."""
    platform = Platform()
    entry = platform.breakers.trip(trip(lease_ms=10_000))
    at = platform.breakers.at()
    report = Report("shop", "i-1", 1, at)
    platform.clock.advance(STALLED_S)
    platform.breakers.report(report)
    assert platform.breakers.at() == at, "a process that was stopped for a while evaluates first"
    platform.clock.advance(1)
    assert platform.breakers.report(report).at > at
    assert platform.breakers.held() == []
    assert platform.journal.of("audit")[-1]["entry_id"] == entry.id


def test_a_person_who_paces_a_user_takes_calls_for_what_they_cost():
    """Taken for 0.1 s, calls of 50 ms would get half of the budget."""
    platform = Platform()
    platform.work(2.0)
    hot = TripRequest(
        "hot", "shop", "POST /p", mode=BreakerMode.PACE, budget=0.1, issuer="human:ana"
    )
    assert platform.breakers.trip(hot).cost_per_call == pytest.approx(0.05)
    assert platform.breakers.trip(replace(hot, user="nobody")).cost_per_call == 0.0


def test_listeners_hear_once_that_an_instance_enforces_a_version():
    platform = Platform()
    report = Report("shop", "i-9", 4, BASE)
    for _ in range(3):
        platform.breakers.report(report)
    platform.breakers.trip(trip())
    for _ in range(2):
        platform.breakers.report(replace(report, applied=platform.breakers.at()))
    assert [one["applied"] for one in platform.events.of("applied")] == ["3.0", "3.1"]
