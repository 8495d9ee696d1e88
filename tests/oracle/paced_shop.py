"""A service on virtual time: instances with workers and a queue, real breaker tables, a real core.

Everything that decides is the real thing: the collector's core on a manual clock
(:class:`heatshield_collector.simulation.Simulation`), each instance's
:class:`~heatshield.breakers.lease_table.BreakerTable`, its reports, and which of its spans is
urgent. Spans, states, deltas and reports travel as bytes. The model is what is around them: calls
that take so long, workers that serve them first come, first served, users who call.

A call's span lasts from its arrival, as an ASGI server's does: it holds the wait for a worker, and
says the wait in line, which is not charged.
"""

import heapq
import itertools
import json
import math
import random
from collections import deque
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.reports import Reports
from heatshield.contract import BreakerMode, Delta, Report, Snapshot, decode
from heatshield.export.answer import Answer
from heatshield.export.exporter import MIN_BETWEEN_BATCHES_S
from heatshield.export.urgency import Urgency
from heatshield.names import REJECTED, WAITED_US
from heatshield.settings import ServiceSettings
from heatshield_collector.settings import CollectorSettings
from heatshield_collector.simulation import Simulation

SERVICE = "shop"
CALL = "POST /p"
STEP_S = 0.025
"""What a change takes to reach all clients."""


@dataclass
class Asked:
    """One call, and what became of it. Times are seconds since the start."""

    user: str
    sent_s: float
    cost_s: float
    status: int = 0
    ended_s: float = math.inf
    waited_s: float = 0.0
    paced: bool = False

    @property
    def latency_s(self):
        return self.ended_s - self.sent_s


@dataclass
class Line:
    """The wire of an instance's reports."""

    simulation: Simulation

    def request(self, _method, _path, *, body, headers, timeout_s):
        del headers, timeout_s
        answer = self.simulation.breakers.report(Report.from_json(decode(body)))
        return Answer(200, {}, json.dumps(answer.to_json()).encode())


@dataclass
class Instance:
    """One process of the service."""

    name: str
    workers: int
    simulation: Simulation
    free: int = 0
    queue: deque = field(default_factory=deque)
    spans: list = field(default_factory=list)
    urgent: bool = False
    sent_s: float = -1.0
    renewed_s: float = -math.inf

    def __post_init__(self):
        self.free = self.workers
        self.table = BreakerTable(SERVICE, instance=lambda: self.name, chance=lambda: 0.5)
        self.urgency = Urgency()
        self.reports = Reports(
            Line(self.simulation),
            self.table,
            service=SERVICE,
            instance=lambda: self.name,
            workers=self.workers,
            clock=self.simulation.clock,
        )

    def follow(self, now_s):
        """Hear of what has changed, renew, and report, as the thread that watches does."""
        breakers, table = self.simulation.breakers, self.table
        if now_s - self.renewed_s >= table.renew_every_s:
            self.renewed_s = now_s
            table.apply(_sent(Snapshot, breakers.snapshot()), now_s)
        elif table.at != breakers.at():
            delta = breakers.delta_since(table.at)
            found = _sent(Snapshot, breakers.snapshot()) if delta is None else _sent(Delta, delta)
            table.apply(found, self.renewed_s)
        self.reports.send_due(now_s)


def _sent(kind, value):
    return kind.from_json(decode(json.dumps(value.to_json()).encode()))


class Shop:
    """Instances, a collector, and the calls that come.

    Args:
        instances: how many processes.
        workers: of each.
        cold_start_s: before which rules trip nothing.
        step_s: between two looks of clients at the collector's state, and at what is to be sent.
    """

    def __init__(self, instances=2, workers=4, cold_start_s=5.0, step_s=STEP_S):
        settings = CollectorSettings(cold_start_s=cold_start_s, mode="protect")
        self.simulation = Simulation(settings)
        self.step_s = step_s
        self.instances = [Instance(f"i-{n}", workers, self.simulation) for n in range(instances)]
        self.flush_s = ServiceSettings().flush_interval_s
        self.asked: list[Asked] = []
        self._events: list = []
        self._count = itertools.count(1)
        self._turn = 0
        self._epoch_ns = self.simulation.clock.time_ns()
        self._start_s = self.simulation.clock.monotonic()
        self._follow()

    # -- what happens when ---------------------------------------------------------------------

    @property
    def now_s(self):
        return self.simulation.elapsed_s

    def at(self, at_s, act):
        """Do something then."""
        heapq.heappush(self._events, (at_s, next(self._count), act))

    def run(self, until_s):
        while self._events and self._events[0][0] <= until_s:
            at_s, _, act = heapq.heappop(self._events)
            self.simulation.advance(max(0.0, at_s - self.now_s))
            act()
        self.simulation.advance(max(0.0, until_s - self.now_s))
        return self

    def _follow(self):
        for instance in self.instances:
            instance.follow(self._start_s + self.now_s)
            self._export(instance)
        self.at(self.now_s + self.step_s, self._follow)

    def _export(self, instance):
        age_s = self.now_s - instance.sent_s
        if age_s < (MIN_BETWEEN_BATCHES_S if instance.urgent else self.flush_s):
            return
        instance.sent_s, instance.urgent = self.now_s, False
        if instance.spans:
            spans, instance.spans = instance.spans, []
            self.simulation.receive(_payload(instance.name, spans))

    # -- a call --------------------------------------------------------------------------------

    def call(self, user, cost_s, then=None):
        """A user calls now; ``then`` is told when the answer has come."""
        asked = Asked(user, self.now_s, cost_s)
        self.asked.append(asked)
        self._turn += 1
        self._admit(asked, self.instances[self._turn % len(self.instances)], then, math.inf)

    def _admit(self, asked, instance, then, most_wait_s):
        now = self._start_s + self.now_s
        decision = instance.table.decide(asked.user, CALL, now, most_wait_s)
        asked.paced |= decision.entry is not None and decision.entry.mode is BreakerMode.PACE
        if not decision.allowed:
            self._end(asked, instance, then, decision.status, decision.entry.id)
        elif decision.delay_s:
            asked.waited_s += decision.delay_s
            entry_id = decision.entry.id
            turn = lambda: self._at_turn(asked, instance, then, entry_id)  # noqa: E731
            self.at(self.now_s + decision.delay_s, turn)
        else:
            self._enqueue(asked, instance, then)

    def _at_turn(self, asked, instance, then, entry_id):
        if instance.table.refuses_now(entry_id):
            self._admit(asked, instance, then, 0.0)
        else:
            self._enqueue(asked, instance, then)

    def _enqueue(self, asked, instance, then):
        instance.queue.append((asked, then))
        self._serve(instance)

    def _serve(self, instance):
        while instance.free and instance.queue:
            asked, then = instance.queue.popleft()
            instance.free -= 1
            done = lambda asked=asked, then=then: self._done(asked, instance, then)  # noqa: E731
            self.at(self.now_s + asked.cost_s, done)

    def _done(self, asked, instance, then):
        instance.free += 1
        self._end(asked, instance, then, 200)
        self._serve(instance)

    def _end(self, asked, instance, then, status, entry_id=""):
        asked.status, asked.ended_s = status, self.now_s
        instance.spans.append(self._span(asked, entry_id))
        seconds = asked.latency_s - asked.waited_s
        instance.urgent |= not entry_id and instance.urgency.judge(CALL, seconds, 0)
        if then is not None:
            then(asked)

    def _span(self, asked, entry_id):
        number = next(self._count)
        span = Span(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name=CALL,
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=self._epoch_ns + round(asked.sent_s * 1e9),
            end_time_unix_nano=self._epoch_ns + round(asked.ended_s * 1e9),
        )
        said = {"enduser.id": asked.user} | ({REJECTED: entry_id} if entry_id else {})
        for key, value in said.items():
            span.attributes.add(key=key).value.string_value = value
        if asked.waited_s:
            waited_us = round(asked.waited_s * 1e6)
            span.attributes.add(key=WAITED_US).value.int_value = waited_us
        return span

    # -- users ---------------------------------------------------------------------------------

    def poisson(self, users, rate_per_s, cost_s, from_s, to_s, seed=1):
        """Independent users, together so many calls a second, of a lognormal cost."""
        chance = random.Random(seed)
        mu = math.log(cost_s) - 0.5**2 / 2

        def come():
            self.call(chance.choice(users), chance.lognormvariate(mu, 0.5))
            following(self.now_s)

        def following(at_s):
            at_s += chance.expovariate(rate_per_s)
            if at_s < to_s:
                self.at(at_s, come)

        following(from_s)

    def hammer(self, user, cost_s, connections, from_s, to_s, again_s=0.2):
        """A user who calls again at each answer; ``again_s`` after a refusal, whatever it says."""

        def answered(asked):
            after_s = 0.0 if asked.status == 200 else again_s
            if self.now_s + after_s < to_s:
                self.at(self.now_s + after_s, lambda: self.call(user, cost_s, answered))

        for _ in range(connections):
            self.at(from_s, lambda: self.call(user, cost_s, answered))

    def pages(self, user, pictures, cost_s, every_s, from_s, to_s):
        """A reader opens a page of pictures, all fetched at once, every so many seconds."""
        at_s = from_s
        while at_s < to_s:
            for _ in range(pictures):
                self.at(at_s, lambda: self.call(user, cost_s))
            at_s += every_s

    # -- what became of it ---------------------------------------------------------------------

    def of(self, user, from_s=0.0, to_s=math.inf):
        return [one for one in self.asked if one.user == user and from_s <= one.sent_s < to_s]

    def others(self, user, from_s=0.0, to_s=math.inf):
        return [one for one in self.asked if one.user != user and from_s <= one.sent_s < to_s]

    def changes(self, *kinds):
        """(seconds, change, entry, reason) of the audit."""
        return [
            ((row["at_ns"] - self._epoch_ns) / 1e9, row["change"], row["entry"], row["reason"])
            for row in self.simulation.rows["audit"]
            if not kinds or row["change"] in kinds
        ]

    def paced_or_refused(self):
        return {one.user for one in self.asked if one.paced or one.status in (429, 503)}

    def refused(self):
        return {one.user for one in self.asked if one.status == 503}


def p99(asked):
    ordered = sorted(one.latency_s for one in asked)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def _payload(instance, spans):
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    for key, value in {"service.name": SERVICE, "service.instance.id": instance}.items():
        of_resource.resource.attributes.add(key=key).value.string_value = value
    of_resource.scope_spans.add().spans.extend(spans)
    return request.SerializeToString()
