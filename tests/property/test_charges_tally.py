"""However often costs are told while calls run, they add up to what one report at the end tells."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from heatshield.charge_report import MAX_PAIRS, ChargeReport, ProcessState
from heatshield.charges.meter import Meter
from heatshield.charges.tally import RUNNING_MOST, Tally, Told
from heatshield.context.request import Request
from heatshield.names import COST_ELEMENTS, GUARD
from heatshield.tracing.span import Span
from heatshield.tracing.span_records import Scope

MS = 1_000_000
BEGAN_NS = 7 * MS
COSTS = ("cpu_us", "wait_us", "elements", "calls", "errors")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["compute", "wait", "operation", "guard", "end guard", "end", "report"]),
        st.integers(1, 400),
    ),
    max_size=40,
)


class World:
    """One thread with calls one after the other, on clocks of its own."""

    def __init__(self):
        self.now_ns = BEGAN_NS
        self.cpu_ns = 0
        self.meter = Meter(lambda: self.now_ns, lambda: self.cpu_ns)
        self.meter.is_on = True
        self.tally = Tally(self.meter, lambda _: self.cpu_ns)
        self.sums: Counter = Counter()
        self.reports: list[ChargeReport] = []
        self.users = 0
        self.begin()

    def begin(self):
        self.users += 1
        self.request = Request(user=f"u-{self.users}", entered=True)
        self.guards: list[Span] = []
        self.server = self.span("GET /", SpanKind.SERVER)

    def span(self, name, kind, guard="", **attributes):
        scope = Scope("heatshield.test")
        made = Span(
            name, self.users, 0, kind, attributes, scope, self.request, guard, self.meter.end
        )
        self.meter.begin(made)
        return made

    def step(self, what, ms):
        if what == "compute":
            self.now_ns += ms * MS
            self.cpu_ns += ms * MS
        elif what == "wait":
            self.now_ns += ms * MS
        elif what == "operation":
            within = self.guards[-1].guard if self.guards else ""
            where = {"db.system": "redis", "server.address": "cart"}
            span = self.span("GET", SpanKind.CLIENT, within, **where, **{COST_ELEMENTS: ms})
            self.now_ns += ms * MS
            self.told_within()
            span.end()
        elif what == "guard" and len(self.guards) < 3:
            name = f"guard {len(self.guards)}"
            self.guards.append(self.span(name, SpanKind.INTERNAL, name, **{GUARD: True}))
        elif what == "end guard" and self.guards:
            self.guards.pop().end()
        elif what == "end":
            self.end()
            self.begin()

    def told_within(self):
        """Where reports are made in the midst of operations, too."""

    def end(self):
        while self.guards:
            self.guards.pop().end()
        self.server.end()

    def report(self):
        told = Told("shop", "a", 1, self.now_ns, 0, 0.2, ProcessState())
        report = self.tally.report(told)
        self.reports.append(report)
        for pair in report.pairs:
            for cost in COSTS:
                self.sums[pair.user, pair.call, cost] += getattr(pair, cost)
        for row in report.backend_us:
            pair = report.pairs[row.pair]
            self.sums[pair.user, pair.call, row.backend] += row.us
            self.sums[pair.user, pair.call, row.backend, "operations"] += row.operations
        for row in report.durations:
            pair = report.pairs[row.pair]
            if not row.open:
                self.sums[pair.user, pair.call, "ended", row.bucket] += row.calls


class Often(World):
    """Tells all the time."""

    def told_within(self):
        self.report()

    def step(self, what, ms):
        super().step(what, ms)
        if what == "report":
            self.report()


@given(STEPS)
def test_costs_told_in_flight_are_not_told_again_at_the_end(steps):
    once, often = World(), Often()
    for world in (once, often):
        for what, ms in steps:
            world.step(what, ms)
        world.end()
        world.report()
    assert +often.sums == +once.sums
    computed = sum(ms for what, ms in steps if what == "compute") * 1_000
    told = sum(value for key, value in once.sums.items() if key[2] == "cpu_us")
    assert told == computed
    in_all = sum(value for key, value in once.sums.items() if key[2] in {"cpu_us", "wait_us"})
    in_backends = sum(value for key, value in once.sums.items() if key[2:] == ("redis cart",))
    assert in_all + in_backends == (once.now_ns - BEGAN_NS) // 1_000
    once.report()
    assert once.reports[-1].pairs == []


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3)), max_size=300))
def test_a_report_is_bounded_and_the_rest_adds_up(calls):
    world = World()
    world.end()
    for user, ms in calls:
        world.request = Request(user=f"u-{user}", entered=True)
        span = world.span(f"GET /{user % 100}", SpanKind.SERVER)
        world.step("compute", ms + 1)
        span.end()
    world.report()
    (report,) = world.reports
    assert len(report.pairs) <= 2 * MAX_PAIRS + 1
    assert sum(pair.calls for pair in report.pairs) == len(calls) + 1
    assert sum(pair.cpu_us for pair in report.pairs) == sum(ms + 1 for _, ms in calls) * 1_000
    assert ChargeReport.from_json(report.to_json()) == report


def test_of_very_many_open_calls_every_nth_report_tells_and_nothing_is_lost():
    world = World()
    world.end()
    spans = []
    for number in range(2 * RUNNING_MOST + 1):
        world.request = Request(user=f"u-{number % 7}", entered=True)
        spans.append(world.span("GET /", SpanKind.SERVER))
    world.now_ns += MS
    for _ in range(6):
        world.report()
    told = [sum(row.calls for row in report.durations if row.open) for report in world.reports]
    assert told == [0, 0, len(spans), 0, 0, len(spans)]
    for span in spans:
        span.end()
    world.report()
    calls = sum(pair.calls for report in world.reports for pair in report.pairs)
    assert calls == len(spans) + 1
    waits = sum(pair.wait_us for report in world.reports for pair in report.pairs)
    assert waits == 1_000 * len(spans)
