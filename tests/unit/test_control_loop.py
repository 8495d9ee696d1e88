"""From a finding to an alert to a breaker to everybody who must hear of it; time stands still."""

import json
from pathlib import Path

import pytest
from charge_rows import Traffic, charge, linked

from heatshield import names
from heatshield.breakers.table import BreakerTable
from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import ManualClock
from heatshield.contract import (
    BreakerMode,
    PlatformMode,
    Rejections,
    Report,
    Snapshot,
    StateVersion,
)
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.rules import SHIPPED_RULES, RuleRunner, load_file, load_text
from heatshield_alerts.series import METRIC_NAME
from heatshield_collector.control import Breakers, ControlLoop, Journal, LoadAnswers, Outlets
from heatshield_collector.detect import PANE_S, Detection, Durations
from heatshield_collector.link import Linked
from heatshield_collector.ports import TripRefusedError, TripRequest
from heatshield_collector.store import DuckDBStore, StoreError

COLD_START_S = 120.0
BASE = StateVersion(3, 0)


class Journaled:
    """A journal that keeps what it is given."""

    def __init__(self):
        self.rows = []

    def write(self, table, row):
        self.rows.append((table, row))

    def of(self, table):
        return [row for name, row in self.rows if name == table]


class Heard:
    """The hub, as who listens to everything hears it."""

    def __init__(self):
        self.events = []

    def publish(self, name, data):
        assert data["at_ns"] > 0
        json.dumps(data)
        self.events.append((name, data))

    def of(self, name):
        return [data for of, data in self.events if of == name]


class Told:
    """Alerts that people are told of; fails while it is told to."""

    def __init__(self):
        self.alerts = []

    def submit(self, alert, trace_ids=()):
        self.alerts.append((alert.state.value, dict(alert.labels), list(trace_ids)))


class Platform:
    """Detection, rules and breakers on one manual clock, without a thread."""

    def __init__(self, mode=PlatformMode.PROTECT, rules=None, cold_start_s=COLD_START_S):
        self.clock, self.events, self.journal = ManualClock(), Heard(), Journaled()
        self.notifier, self.rejected = Told(), []
        self.breakers = Breakers(
            BreakerControl(3, mode),
            self.events,
            self.journal,
            lambda *row: self.rejected.append(row),
            self.clock,
        )
        self.detection = Detection(lambda service: self.breakers.workers_of(service) or 1.0)
        self.loop = ControlLoop(
            self.detection,
            RuleRunner(rules or load_file(Path(str(SHIPPED_RULES)))),
            self.breakers,
            Outlets(self.journal, self.events, self.notifier),
            self.clock,
            cold_start_s,
        )
        self._traffic = Traffic(1.0, seed=3, users=50, rate=20.0, load=0.2)
        self._traces = 10**6
        self.breakers.attend("shop", "i-1", 4)
        self.breakers.attend("shop", "i-2", 4)
        self.breakers.count_workers(self.clock.now())

    def warm(self, seconds=130):
        """Ordinary traffic, by default for a little longer than a cold start lasts."""
        for _ in range(seconds // 10):
            self.detection.observe(
                Linked.of_charges(next(self._traffic.past(10))), self.clock.now()
            )
            self.clock.advance(10)
            self.breakers.attend("shop", "i-1", 4)
            self.breakers.attend("shop", "i-2", 4)
        self.loop.round(self.clock.now())
        return self

    def work(self, workers, user="hot"):
        """Charges of a quarter of a second in which ``user`` keeps some workers busy."""
        rows = []
        for _ in range(round(workers * PANE_S * 1_000 / 50)):
            self._traces += 1
            rows.append(charge(user, 50, trace=self._traces))
        self.detection.observe(linked(rows), self.clock.now())
        self.clock.advance(PANE_S)

    def step(self, *, workers=0.0, user="hot"):
        """A quarter of a second of work, and a round."""
        self.work(workers, user)
        self.loop.round(self.clock.now())

    def burn(self, seconds, workers=2.0, user="hot"):
        for _ in range(round(seconds / PANE_S)):
            self.step(workers=workers, user=user)

    def held(self):
        return [(key, state) for key, state, _ in self.breakers.held()]


HOT = CallKey(DEFAULT_TENANT, "hot", "shop", "POST /p")


# -- the loop -----------------------------------------------------------------------------------


def test_a_hot_user_is_found_alerted_on_and_cut_within_a_second():
    platform = Platform().warm()
    platform.burn(1.0)
    assert platform.held() == [(HOT, "open")]
    (entry,) = platform.breakers.snapshot().entries
    assert entry.key == HOT
    assert (entry.mode, entry.issuer) == (BreakerMode.REJECT, "rule:HotUser")
    assert entry.reason == "hot is burning shop with POST /p"
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
    platform.burn(3.0)
    (finding,) = [one for one in platform.events.of("finding") if one["class"] == "hot"]
    assert (finding["user"], finding["service"], finding["call"]) == HOT[1:]
    pending, alert = platform.events.of("alert")
    assert (pending["state"], alert["name"], alert["state"]) == ("pending", "HotUser", "firing")
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
    assert len([row for row in journal.of("findings") if row["class"] == "hot"]) == 1


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


def test_in_shadow_it_decides_and_says_so_to_those_who_do_not_enforce():
    platform = Platform(PlatformMode.SHADOW).warm()
    platform.burn(1.0)
    snapshot = platform.breakers.snapshot()
    assert snapshot.mode is PlatformMode.SHADOW
    assert [entry.user for entry in snapshot.entries] == ["hot"]
    assert platform.journal.of("audit")[0]["change"] == "opened"


def test_a_user_who_stops_is_probed_and_let_go_and_the_alert_resolves():
    platform = Platform().warm()
    platform.burn(2.0)
    for _ in range(round(120 / PANE_S)):
        platform.step()
        if not platform.held():
            break
    assert platform.held() == []
    changes = [one["change"] for one in platform.events.of("breaker")]
    assert changes == ["opened", "half_open", "closed"]
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
    assert told == [({HOT: load}, now)]
    assert load > 1.0


def test_a_finding_that_pauses_for_a_moment_is_the_same_and_later_a_new_one():
    platform = Platform().warm()
    platform.burn(1.0)
    for pause_s, findings in ((5.0, 1), (30.0, 2)):
        platform.burn(pause_s, workers=0.0)
        platform.burn(1.5, workers=4.0)
        found = [one for one in platform.events.of("finding") if one["class"] == "hot"]
        assert len(found) == findings


def test_findings_are_numbered_within_the_epoch_of_their_start():
    """So no two are named alike, not after a restart either, and a replay names them the same."""
    platform = Platform().warm()
    for user in ("hot", "hotter"):
        platform.burn(1.5, user=user)
    found = [one["id"] for one in platform.events.of("finding")]
    assert found == [f"f-3-{n}" for n in range(1, len(found) + 1)]
    assert len(found) > 2
    assert [row["id"] for row in platform.journal.of("findings")] == found


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
    assert series[names.BREAKERS] == [{"state": "open", "mode": "reject"}]
    assert series[names.ALERTS] == [{"alertname": "HotUser", "alertstate": "firing"}]

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


# -- the breakers -------------------------------------------------------------------------------


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
    for user, reason in (("", "no user"), ("*", "wildcards")):
        with pytest.raises(TripRefusedError, match=reason):
            platform.breakers.trip(TripRequest(user, "shop", "POST /p", issuer="human:ana"))
    assert platform.breakers.snapshot().entries == ()


def test_a_user_of_the_name_unknown_can_be_cut():
    """No user is ``None``, in breaker control as in the table of a service."""
    platform = Platform()
    entry = platform.breakers.trip(TripRequest("unknown", "shop", "POST /p", issuer="human:ana"))
    table = BreakerTable("shop")
    table.apply(Snapshot.from_json(platform.breakers.snapshot().to_json()), sent_at=0.0)
    assert table.decide("unknown", "POST /p", 1.0).entry == entry
    assert not table.decide("unknown", "POST /p", 1.0).allowed
    assert table.decide(None, "POST /p", 1.0).allowed


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
    assert platform.breakers.capacities() == {"shop": 10.0, "talk": 2.0}
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


# -- what people read ---------------------------------------------------------------------------


def test_hot_users_are_shown_with_class_share_baseline_breaker_and_request():
    platform = Platform().warm()
    platform.burn(1.0)
    loads = LoadAnswers(
        platform.detection, Durations(), platform.breakers,
        lambda: platform.loop.findings, platform.clock,
    )  # fmt: skip
    view = loads.hot_users("busy", "1s", 1, "call")
    assert view.capacity == 8.0
    (row,) = view.users
    assert (row.user, row.service, row.call, row.klass) == (*HOT[1:], "hot")
    assert row.share == pytest.approx(row.lower / 8)
    assert row.breaker == platform.breakers.snapshot().entries[0].id
    assert int(row.trace_id, 16) > 10**6
    (by_user,) = loads.hot_users("calls", "1s", 1, "user").users
    assert (by_user.user, by_user.service, by_user.klass) == ("hot", "", "hot")
    assert by_user.load == pytest.approx(40.0, rel=0.3)
    (call,) = loads.calls("10s", 5)
    assert (call.service, call.call) == ("shop", "POST /p")


def test_costs_of_no_user_are_shown_as_unknown_and_share_a_series_with_a_user_of_that_name():
    platform = Platform()
    rows = [charge(None, 100, eligible=False), charge("unknown", 50, trace=2)]
    platform.detection.observe(linked(rows), platform.clock.now())
    loads = LoadAnswers(platform.detection, Durations(), platform.breakers, list, platform.clock)
    view = loads.hot_users("busy", "1s", 9, "call")
    assert [(row.user, round(row.load, 9)) for row in view.users] == [
        ("unknown", 0.1),
        ("unknown", 0.05),
    ]
    assert [row.user for row in loads.hot_users("busy", "1s", 1, "user").users] == ["unknown"]
    wanted = {"user": "unknown", "service": "shop", "call": "POST /p", "cost": "busy"}
    samples = [
        sample
        for sample in platform.loop.samples()
        if dict(sample.labels).items() >= ({**wanted, "window": "1s"}).items()
    ]
    assert [round(sample.value, 9) for sample in samples] == [0.15]


# -- the journal --------------------------------------------------------------------------------


AUDIT = {
    "at_ns": 1, "change": "opened", "entry_id": "b-1", "issuer": "human:a", "reason": "r",
    "version": "1.1", "entry": {"user": "u", "evidence": {"trace_ids": ["aa"]}},
}  # fmt: skip
FINDING = {
    "id": "f-1", "class": "hot", "user": "u", "service": "shop", "call": "POST /p",
    "cost": "busy", "window": "1s", "load": 1.5, "at_ns": 2, "trace_ids": ["aa"], "reason": "r",
}  # fmt: skip


def test_rows_are_written_in_order_with_objects_as_json_when_it_stops(tmp_path):
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal.write("findings", FINDING)
    for at_ns in (1, 2, 3):
        journal.write("audit", {**AUDIT, "at_ns": at_ns})
    journal.start()
    journal.stop()
    assert [row["at_ns"] for row in store.recent("audit", 9)] == [3, 2, 1]
    assert json.loads(store.recent("audit", 1)[0]["entry"]) == AUDIT["entry"]
    (finding,) = store.recent("findings", 9)
    assert json.loads(finding["trace_ids"]) == ["aa"]
    assert finding["load"] == 1.5
    assert journal.dropped == 0
    store.close()


@pytest.mark.parametrize("wrong", [{**AUDIT, "at_ns": "yesterday"}, {**AUDIT, "change": None}])
def test_a_row_that_can_t_be_written_is_counted_and_the_next_ones_are(tmp_path, wrong):
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal._append([("audit", wrong)])
    journal._append([("audit", {**AUDIT, "entry": "{}"})])
    assert journal.dropped == 1
    assert len(store.recent("audit", 9)) == 1
    store.close()


def test_a_store_that_fails_costs_rows_and_not_the_thread():
    class Failing:
        def append(self, _tables):
            raise StoreError("x")

    journal = Journal(Failing(), ManualClock())
    journal.start()
    journal.write("audit", AUDIT)
    journal.stop()
    assert journal.dropped == 1


def test_a_full_queue_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("heatshield_collector.control.journal.ROWS_MOST", 2)
    journal = Journal(None, ManualClock())
    for _ in range(5):
        journal.write("audit", AUDIT)
    assert journal.dropped == 3
