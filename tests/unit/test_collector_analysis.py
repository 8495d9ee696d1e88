"""What becomes of a decoded batch beside being stored: linked, charged, measured."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from span_rows import INTERNAL, START_NS, span, table

from heatshield import names
from heatshield.clock import ManualClock
from heatshield.contract import PlatformMode
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_collector.analysis import Analysis
from heatshield_collector.control import Breakers, Outlets
from heatshield_collector.detect import Detection, Durations
from heatshield_collector.link import Linker
from heatshield_collector.link.pending import PATIENCE_NS
from heatshield_collector.link.reporting import Reporting
from heatshield_collector.link.shown_workers import ShownWorkers
from heatshield_collector.self_metrics import SelfMetrics


class Heard:
    def __init__(self):
        self.events = []

    def publish(self, name, data):
        self.events.append((name, data["instance"]))


class Rig:
    """Real parts on a manual clock."""

    def __init__(self):
        self.clock, self.events, self.metrics = ManualClock(), Heard(), SelfMetrics()
        self.breakers = Breakers(
            BreakerControl(3, PlatformMode.PROTECT),
            Outlets(None, self.events, None),
            lambda *_: None,
            self.clock,
        )
        self.detection = Detection(lambda _: 4.0)
        self.durations, self.woken = Durations(), []
        reporting = Reporting()
        self.analysis = Analysis(
            Linker(reporting.reports),
            reporting,
            ShownWorkers(),
            self.detection,
            self.durations,
            self.breakers,
            self.metrics,
            may_be_hot=lambda: self.woken.append(1),
        )

    def charge(self, *rows):
        return self.analysis.charge(table(rows), self.clock.now())

    def top(self):
        found = self.detection.loads.top("busy", "10s", 9, self.clock.monotonic())
        return {one.key.user: round(one.load * 10, 6) for one in found}

    def requests(self):
        """Requests by outcome, as /metrics has them."""
        text = self.metrics.render("application/openmetrics-text")[0].decode()
        return {
            sample.labels["outcome"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == names.REQUESTS
        }


def test_a_batch_is_charged_measured_and_summed_up():
    rig = Rig()
    parts = rig.charge(span(1, user="u"), span(2, trace=2, user="v", status=2))
    assert parts.num_rows == 2
    assert rig.top() == {"u": 0.01, "v": 0.01}
    assert rig.requests() == {"ok": 1, "error": 1, "rejected": 0}
    p50, p99 = rig.durations.quantiles("shop", "POST /p")
    assert p50 == p99 == 10.0
    assert rig.durations.quantiles("shop", "GET /") == (None, None)


def test_a_batch_that_is_delivered_again_changes_no_load_rate_or_duration():
    rig = Rig()
    rows = [span(1, user="u"), span(2, trace=2, user="v", rejected="b-1", duration_ns=1)]
    for _ in range(3):
        rig.charge(*rows)
    assert rig.top() == {"u": 0.01}
    assert rig.requests() == {"ok": 1, "error": 0, "rejected": 1}
    assert rig.analysis.dropped()["duplicate"] == 4


def test_what_no_span_names_a_user_of_is_charged_to_no_user_also_when_no_batch_comes():
    rig = Rig()
    rig.charge(span(1, trace=7, parent=9))
    rig.clock.advance(PATIENCE_NS / 1e9)
    rig.analysis.settle(rig.clock.now())
    assert rig.top() == {None: 0.01}
    rig.analysis.settle(rig.clock.now())
    assert rig.top() == {None: 0.01}


def test_a_user_called_unknown_is_charged_apart_from_what_no_user_is_known_of():
    rig = Rig()
    rig.charge(span(1, trace=7, parent=9), span(2, trace=8, user="unknown", duration_ns=2 * 10**7))
    rig.clock.advance(PATIENCE_NS / 1e9)
    rig.analysis.settle(rig.clock.now())
    assert rig.top() == {None: 0.01, "unknown": 0.02}


def test_a_wall_clock_that_jumps_settles_nothing_early():
    rig = Rig()
    rig.charge(span(1, trace=7, parent=9))
    rig.clock.step_wall_clock(3600)
    rig.analysis.settle(rig.clock.now())
    rig.charge(span(2, trace=7, user="u"))
    assert rig.top() == {"u": 0.02}


def test_a_costly_request_asks_for_an_evaluation_at_once_and_an_ordinary_one_does_not():
    rig = Rig()
    rig.charge(span(1, user="u", duration_ns=10**6))
    assert rig.woken == []
    rig.charge(span(2, trace=2, user="u", duration_ns=10**9))
    assert rig.woken == [1]


def test_an_instance_that_only_sends_spans_lives_for_as_long_as_it_does_and_appears_once():
    """Stock OpenTelemetry reports no workers and watches no breakers."""
    rig = Rig()
    for second in range(300):
        rig.charge(span(second + 1, trace=second + 1, user="u"), span(second + 1_000, instance=""))
        assert rig.breakers.capacities() == {"shop": 1.0}
        rig.clock.advance(1)
    assert rig.events.events == [("instance", "i-1")]
    rig.clock.advance(31)
    assert rig.breakers.capacities() == {}


def test_an_instance_that_watches_keeps_the_workers_it_reported():
    rig = Rig()
    rig.charge(span(1, user="u"))
    rig.breakers.attend("shop", "i-1", 8)
    for second in range(60):
        rig.charge(span(second + 2, trace=second + 2, user="u"))
        rig.clock.advance(1)
        assert rig.breakers.capacities() == {"shop": 8.0}


def test_a_batch_looks_at_the_instances_that_sent_it_however_many_there_are(monkeypatch):
    rig = Rig()
    for number in range(100):
        rig.breakers.attend("shop", f"i-{number}", 2)
    rig.charge(span(1, user="u", instance="i-5"))  # counts workers, once in a quarter of a second
    looked = []
    kept = rig.breakers._control.instances._known
    monkeypatch.setattr(rig.breakers._control.instances, "_known", Watched(kept, looked))
    rig.charge(span(2, trace=2, user="u", instance="i-5"))
    assert looked == [("shop", "i-5")]
    rig.clock.advance(10)
    assert rig.breakers.instance("shop", "i-5", rig.clock.now()).workers == 2


class Watched(dict):
    """Notes which keys are read; listing all is every key."""

    def __init__(self, kept, looked):
        super().__init__(kept)
        self.looked = looked

    def get(self, key, default=None):
        self.looked.append(key)
        return super().get(key, default)

    def values(self):
        self.looked += self
        return super().values()


def test_every_cause_of_a_lost_charge_is_reported():
    rig = Rig()
    rig.charge(span(1, parent=99, kind=INTERNAL, start_ns=START_NS))
    causes = rig.analysis.dropped()
    linker = rig.analysis._linker
    assert {f"pending_{cause}" for cause in linker.pending.dropped} <= causes.keys()
    assert not any(causes.values())
    assert {"waiting_children", "users_forgotten_early", "seen_forgotten_early"} <= causes.keys()
