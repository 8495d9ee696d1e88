"""From a finding to an alert to a breaker to all that must hear of it; time stands still."""

# long: one loop, from all its sides

import json
from pathlib import Path

import pytest
from charge_rows import charge, linked
from control_platform import BASE, HOT, Platform
from heat_harms import sentence

from heatshield import names
from heatshield.clock import ManualClock
from heatshield.contract import (
    MAX_LEASE_MS,
    BreakerMode,
    PlatformMode,
    Rejections,
    Report,
)
from heatshield_alerts.rules import SHIPPED_RULES, Alert, AlertState, load_file, load_text
from heatshield_alerts.seen import Seen
from heatshield_alerts.series import METRIC_NAME, Labels
from heatshield_collector.control.finding_book import OPEN_MOST
from heatshield_collector.detect import PANE_S, Finding

WORKING = {"Budget", "HarmfulUser", "HotUser", "Overload", "RuleFailing"}
"""The shipped rules."""


def test_a_hot_user_is_found_alerted_on_and_cut_within_a_second():
    platform = Platform().warm()
    platform.burn(1.0)
    assert platform.held() == [(HOT, "open")]
    (entry,) = platform.breakers.snapshot().entries
    assert entry.key == HOT
    assert (entry.mode, entry.issuer) == (BreakerMode.PACE, "rule:HarmfulUser")
    assert 0 < entry.budget < platform.detection.floor_of("shop")
    assert entry.reason == sentence(HOT)
    delta = platform.breakers.delta_since(BASE)
    assert delta.upsert == (entry,)
    assert platform.breakers.at() > BASE


def test_the_entry_says_on_what_evidence_it_stands():
    platform = Platform().warm()
    platform.burn(1.0)
    (entry,) = platform.breakers.snapshot().entries
    evidence = entry.evidence
    assert evidence["load"] == pytest.approx(0.5)  # half a second of work in the first quarter
    assert evidence["baseline"] == 0.0
    assert evidence["threshold"] == pytest.approx(0.24)
    assert evidence["cost_per_call"] == pytest.approx(0.05)
    assert len(evidence["trace_ids"]) == 3
    assert all(int(trace, 16) > 10**6 for trace in evidence["trace_ids"])


def test_everybody_hears_of_it_once():
    platform = Platform().warm()
    platform.burn(1.5)
    (finding,) = [one for one in platform.events.of("finding") if one["class"] == "harmful"]
    assert (finding["change"], finding["action"]) == ("opened", "pace")
    assert (finding["user"], finding["service"], finding["call"]) == HOT[1:]
    pending, alert = platform.events.of("alert")
    assert (pending["state"], alert["name"], alert["state"]) == ("pending", "HarmfulUser", "firing")
    assert alert["fired_at_ns"] <= alert["at_ns"] <= platform.clock.time_ns()
    (opened,) = platform.events.of("breaker")
    assert (opened["change"], opened["entry"]["user"]) == ("opened", "hot")
    assert [(state, labels["user"]) for state, labels, _ in platform.notifier.alerts] == [
        ("pending", "hot"),
        ("firing", "hot"),
    ]
    assert all(traces for _, _, traces in platform.notifier.alerts)
    journal = platform.journal
    assert [row["change"] for row in journal.of("audit")] == ["opened"]
    assert [row["state"] for row in journal.of("alerts")] == ["pending", "firing"]
    assert len([row for row in journal.of("findings") if row["class"] == "harmful"]) == 1


def test_alerts_say_why_and_who_suffers_in_the_api_to_people_and_after_it_is_over():
    platform = Platform().warm()
    platform.burn(1.0)
    platform.burn(60.0, workers=0.0)
    told = [alert.annotations for alert in platform.notifier.submitted]
    assert len(told) == 3
    for annotations in (*told, *(alert.annotations for alert in platform.loop.alerts)):
        assert annotations["why"] == sentence(HOT)
        assert annotations["harm"].startswith("128 of 312 requests of 41 other users are slower")
        assert annotations["summary"] == "hot is burning shop with POST /p"


def test_the_entry_has_the_finding_and_its_victims_as_evidence():
    platform = Platform().warm()
    platform.burn(1.0)
    (entry,) = platform.breakers.snapshot().entries
    (record,) = [one for one in platform.loop.book.open if one.finding.klass == "harmful"]
    assert entry.evidence["finding"] == record.id
    assert entry.evidence["resource"] == "Redis cart"
    assert entry.evidence["victims"]["harmed"] == 128
    assert json.loads(json.dumps(entry.evidence)) == entry.evidence


def test_harm_that_lasts_while_the_user_is_paced_is_refused_and_the_audit_says_why():
    platform = Platform().warm()
    platform.burn(3.0)
    (entry,) = platform.breakers.snapshot().entries
    assert entry.mode is BreakerMode.REJECT
    opened, escalated = platform.journal.of("audit")
    assert 2.0 <= (escalated["at_ns"] - opened["at_ns"]) / 1e9 <= 2.5
    assert escalated["reason"].endswith(sentence(HOT))
    of_user = [one for one in platform.events.of("finding") if one["user"] == "hot"]
    burning = [one for one in of_user if one["class"] == "harmful"]
    assert [one["change"] for one in burning] == ["opened", "changed"], "pace became reject"


def test_a_user_on_a_large_service_is_demanding_with_what_harms_others_there():
    """Three percent of 408 workers are 12, and a small backend is harmed by much less."""
    platform = Platform()
    for number in range(50):
        platform.breakers.attend("shop", f"j-{number}", 8)
    platform.clock.advance(1.0)
    now = platform.clock.now()
    platform.breakers.count_workers(now)
    finding = Finding("harmful", HOT, "busy", "1s", 0.9, 0.0, "r", action="pace")
    platform.loop.book.take([finding], now)
    labels = {"user": HOT.user, "service": HOT.service, "call": HOT.call}
    alert = Alert("HarmfulUser", Labels(labels), AlertState.FIRING, 0.9)
    assert platform.detection.floor_of("shop") > 12
    platform.loop._evidence.note([alert])
    assert platform.loop._evidence.of(alert, now, 0.0, 0.0).threshold == 0.9


def test_ordinary_users_are_left_alone_while_one_is_cut():
    platform = Platform().warm()
    platform.burn(2.0)
    assert {key for key, _ in platform.held()} == {HOT}
    assert {row["labels"]["user"] for row in platform.events.of("alert")} == {"hot"}


def test_a_cold_start_alerts_but_does_not_trip_until_it_is_over():
    platform = Platform()
    platform.burn(5.0)
    assert [one["state"] for one in platform.events.of("alert")] == ["pending", "firing"]
    assert platform.held() == []
    (refused,) = platform.journal.of("audit")
    assert (refused["change"], refused["entry"]["user"]) == ("refused", "hot")
    assert "cold start" in refused["reason"]
    assert platform.breakers.at() == BASE


def test_a_user_who_burns_as_the_cold_start_ends_is_cut_then():
    """And not let be: the burning itself has by then become part of the baseline."""
    platform = Platform().warm(110)
    platform.burn(9.75)
    assert [one["state"] for one in platform.events.of("alert")] == ["pending", "firing"]
    assert [row["change"] for row in platform.journal.of("audit")] == ["refused"]
    assert platform.held() == []
    platform.burn(0.25)
    assert platform.held() == [(HOT, "open")]
    assert platform.journal.of("audit")[-1]["entry"]["evidence"]["baseline"] > 0


def test_what_was_usual_before_a_restart_shortens_the_cold_start():
    platform = Platform()
    platform.loop.known_s = 119.0
    platform.burn(0.75)
    assert platform.held() == []
    platform.burn(1.0)
    assert platform.held() == [(HOT, "open")]


def test_that_findings_are_left_out_is_a_note():
    platform = Platform().warm()
    keys = [HOT._replace(user=f"v-{number}") for number in range(OPEN_MOST)]
    crowd = [Finding("heavy", key, "busy", "10s", 0.1, 0.0, "r") for key in keys]
    platform.loop.book.take(crowd, platform.clock.now())
    assert platform.loop.notes(platform.clock.now()) == [
        "1000 findings are open; milder ones are left out"
    ]


def test_in_shadow_it_decides_and_says_so_to_those_who_do_not_enforce():
    platform = Platform(PlatformMode.SHADOW).warm()
    platform.burn(1.0)
    snapshot = platform.breakers.snapshot()
    assert snapshot.mode is PlatformMode.SHADOW
    assert [entry.user for entry in snapshot.entries] == ["hot"]
    assert platform.journal.of("audit")[0]["change"] == "opened"


def test_a_user_who_stops_is_probed_and_let_go_and_the_alert_resolves():
    platform = Platform().warm()
    platform.burn(3.0)
    for _ in range(round(120 / PANE_S)):
        platform.step()
        if not platform.held():
            break
    assert platform.held() == []
    changes = [one["change"] for one in platform.events.of("breaker")]
    assert changes == ["opened", "escalated", "half_open", "closed"]
    states = [one["state"] for one in platform.events.of("alert")]
    assert states == ["pending", "firing", "resolved"]
    assert platform.breakers.snapshot().entries == ()


def test_a_user_who_is_cut_stays_cut_while_his_calls_keep_being_refused():
    """Cut, he costs nothing; that he would is known from what is refused."""
    platform = Platform().warm()
    platform.burn(2.0)
    (entry,) = platform.breakers.snapshot().entries
    for _ in range(round(40 / PANE_S)):
        row = Rejections(entry.id, 10, HOT.user, HOT.service, HOT.call)
        platform.breakers.report(Report("shop", "i-1", 4, platform.breakers.at(), (row,)))
        platform.step()
    assert platform.held() == [(HOT, "open")]
    assert platform.rejected[0] == ("shop", "POST /p", 10)


def test_breakers_are_told_what_load_still_gets_through(monkeypatch):
    platform = Platform().warm()
    platform.burn(1.0)
    told = []
    monkeypatch.setattr(platform.breakers, "tick", lambda *row: told.append(row))
    platform.step(workers=2.0)
    now = platform.clock.now()
    load = platform.detection.loads.load_of(HOT, "1s", now.monotonic_s).load
    users = platform.detection.loads.active_users()
    assert told == [(Seen({HOT: load}, {HOT}, {}, WORKING, users), now)]
    assert load > 1.0


def test_a_finding_that_pauses_for_a_moment_is_the_same_and_later_a_new_one():
    platform = Platform().warm()
    platform.burn(1.0)
    for pause_s, findings in ((5.0, 1), (30.0, 2)):
        platform.burn(pause_s, workers=0.0)
        platform.burn(1.5, workers=4.0)
        opened = [one for one in platform.events.of("finding") if one["change"] == "opened"]
        assert len([one for one in opened if one["class"] == "harmful"]) == findings


def test_findings_are_numbered_within_the_epoch_of_their_start():
    """So no two are named alike, not after a restart either, and a replay names them the same."""
    platform = Platform().warm()
    for user in ("hot", "hotter"):
        platform.burn(1.5, user=user)
    told = platform.events.of("finding")
    found = [one["id"] for one in told if one["change"] == "opened"]
    assert found == [f"f-3-{n}" for n in range(1, len(found) + 1)]
    assert len(found) > 2
    assert [row["id"] for row in platform.journal.of("findings")] == [one["id"] for one in told]


def test_everything_of_a_round_happens_at_its_moment():
    """However long it takes: no part of it looks at the clock again."""
    platform = Platform().warm()
    platform.work(4.0)
    told = len(platform.events.events)
    now = platform.clock.now()

    class Unasked(ManualClock):
        def now(self):
            raise AssertionError("a second look at the clock")

        monotonic = time_ns = now

    platform.loop._clock = platform.breakers._clock = Unasked()
    platform.loop.round(now)
    assert {name for name, _ in platform.events.events[told:]} == {"finding", "alert", "breaker"}
    assert {data["at_ns"] for _, data in platform.events.events[told:]} == {now.epoch_ns}
    assert platform.held() == [(HOT, "open")]


def test_a_rule_that_fails_is_counted_and_the_others_go_on():
    broken = """
groups:
  - name: mine
    interval: 250ms
    rules:
      - alert: Broken
        expr: heatshield_finding + on (user) group_left () heatshield_user_load
"""
    rules = [*load_text(broken), *load_file(Path(str(SHIPPED_RULES)))]
    platform = Platform(rules=rules).warm()
    platform.burn(1.0)
    assert platform.loop.failures > 0
    assert platform.held() == [(HOT, "open")]


def test_a_failing_rule_is_a_series_a_note_and_an_alert_of_its_own():
    broken = """
groups:
  - name: mine
    rules: [{alert: Broken, expr: "heatshield_user_load + on (user) heatshield_user_load"}]
"""
    rules = [*load_text(broken), *load_file(Path(str(SHIPPED_RULES)))]
    platform = Platform(rules=rules).warm()
    platform.burn(12.0)
    failing = [
        unnamed(one)
        for one in platform.loop.samples()
        if one.labels[METRIC_NAME] == names.RULE_FAILING
    ]
    assert failing == [{"group": "mine", "rule": "Broken"}]
    (note,) = platform.loop.notes(platform.clock.now())
    assert note.startswith("rule Broken of group mine has failed for ")
    fired = [one["labels"] for one in platform.events.of("alert") if one["state"] == "firing"]
    assert [one["rule"] for one in fired if one["alertname"] == "RuleFailing"] == ["Broken"]


def test_a_rule_that_fails_is_not_held_for_working_by_another_of_its_name():
    broken = """
groups:
  - name: mine
    rules: [{alert: HarmfulUser, expr: "heatshield_user_load + on (user) heatshield_user_load"}]
"""
    rules = [*load_text(broken), *load_file(Path(str(SHIPPED_RULES)))]
    platform = Platform(rules=rules).warm()
    platform.burn(1.0)
    assert platform.loop._runner.working == WORKING - {"HarmfulUser"}
    assert platform.held() == [(HOT, "open")], "as long as the other asks for it"


def test_a_rule_that_begins_to_fail_holds_its_breaker_no_longer_than_demand_does(monkeypatch):
    platform = Platform().warm()
    platform.burn(2.0)
    assert platform.held() == [(HOT, "open")]

    def failing(_findings, _nameless):
        raise ZeroDivisionError

    monkeypatch.setattr("heatshield_collector.control.loop.finding_samples", failing)
    for _ in range(round(60 / PANE_S)):
        platform.step()
    assert platform.held() == []


def test_entries_lapse_at_their_ceiling_though_every_round_fails(monkeypatch):
    platform = Platform().warm()
    platform.burn(2.0)
    monkeypatch.setattr(platform.detection, "evaluate", lambda _now: 1 / 0)
    for _ in range(2):
        platform.clock.advance(MAX_LEASE_MS / 2_000)
        platform.loop.attempt(platform.clock.now())
    assert platform.held() == []


def unnamed(sample):
    return dict(sample.labels.drop(METRIC_NAME))


def test_rules_see_every_series_and_only_those_asked_for_are_made(monkeypatch):
    platform = Platform().warm()
    platform.burn(1.0)
    moment = platform.loop.series(platform.clock.now())
    series = {
        name: [unnamed(sample) for sample in moment.select(name, (), 0.0)]
        for name in (names.FINDING, names.SERVICE_CAPACITY, names.BREAKERS, names.ALERTS)
    }
    assert {one["user"] for one in series[names.FINDING]} >= {"hot"}
    assert series[names.SERVICE_CAPACITY] == [{"service": "shop"}]
    assert series[names.BREAKERS] == [{"state": "open", "mode": "pace"}]
    assert series[names.ALERTS] == [{"alertname": "HarmfulUser", "alertstate": "firing"}]

    def dear(*_):
        raise AssertionError("made without being asked for")

    monkeypatch.setattr(platform.detection.loads, "top", dear)
    platform.loop.round(platform.clock.now())
    assert platform.loop.failures == 0
    assert list(platform.loop.series(platform.clock.now()).select("no_such_series", (), 0.0)) == []


def test_loads_without_a_user_have_no_user_label_in_rules_and_are_unknown_in_a_scrape():
    """A rule that trips on the load of users can't then mean the user who bears that name."""
    platform = Platform()
    platform.detection.observe(
        linked([charge(None, 50), charge("u", 50, trace=2)]), platform.clock.now()
    )
    wanted = {"service": "shop", "call": "POST /p", "cost": "busy", "window": "1s"}
    for samples, nameless in (
        (platform.loop.series(platform.clock.now()).select(names.USER_LOAD, (), 0.0), wanted),
        (platform.loop.samples(), {**wanted, "user": "unknown"}),
    ):
        labels = [unnamed(sample) for sample in samples]
        assert nameless in labels
        assert {**wanted, "user": "u"} in labels


def test_all_series_for_a_scrape_name_each_set_of_labels_once():
    platform = Platform().warm()
    platform.burn(1.0)
    samples = list(platform.loop.samples())
    assert len({sample.labels for sample in samples}) == len(samples)
    wanted = {"user": "hot", "service": "shop", "call": "POST /p", "cost": "busy", "window": "1s"}
    hot = [sample.value for sample in samples if unnamed(sample) == wanted]
    assert hot == [
        pytest.approx(platform.detection.loads.load_of(HOT, "1s", platform.clock.monotonic()).lower)
    ]
    assert hot[0] > 1.0


def test_people_are_told_of_alerts_even_if_the_breakers_fail(monkeypatch):
    platform = Platform().warm()

    def failing(loads, now):
        raise RuntimeError("a bug")

    monkeypatch.setattr(platform.breakers, "tick", failing)
    for _ in range(4):
        with pytest.raises(RuntimeError):
            platform.step(workers=2.0)
    assert [state for state, _, _ in platform.notifier.alerts] == ["pending", "firing"]


def test_a_round_that_fails_is_counted_and_not_the_last(monkeypatch):
    platform = Platform()
    rounds = []

    def failing(now, *, early):
        rounds.append(now)
        if len(rounds) < 3:
            raise RuntimeError("a bug")
        platform.loop._ended.set()

    monkeypatch.setattr(platform.loop, "round", failing)
    monkeypatch.setattr("heatshield_collector.control.loop.PANE_S", 0.0)
    platform.loop._run()
    assert len(rounds) == 3
    assert platform.loop.failures == 2
