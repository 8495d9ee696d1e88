"""How long a simulated hour of quiet traffic takes: 200 requests a second, and no user hot.

The whole way is gone on virtual time, by :class:`heatshield_collector.simulation.Simulation`: OTLP
bytes are decoded (64 payloads at once), linked, charged, and every 250 ms detectors and rules are
asked. A request is one server span; 5,000 users follow Zipf's law; four services take turns to send
what there is, once a second or four times. Making the payloads is not timed.
"""

import time
from typing import Any, Final

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import figures
from figures import Report, Target
from heatshield_collector.simulation import Sent, Simulation
from payloads import zipf_users

__all__ = ["run"]

REQUESTS_PER_S: Final = 200
SERVICES: Final = ("gateway", "talk", "capability", "shop")
WORKERS: Final = 4
USERS: Final = 5_000
HOUR_S: Final = 3_600
QUICK_S: Final = 60
CHUNK_S: Final = 64
"""Seconds whose payloads are made at once, before the next are timed."""

GOAL: Final = Target("at most", 30)
"""Seconds: then a day takes some ten minutes, and the stretch that a test needs hardly any time."""

_BUSY_US: Final = (1_000, 3_000)
_NS: Final = 10**9
_SERVER: Final = 2


class _Traffic:
    """Payloads of quiet traffic, second by second."""

    def __init__(self, batches_per_s: int, epoch_ns: int) -> None:
        self._random = np.random.default_rng(11)
        self._users = zipf_users(11, USERS)
        self._batches_per_s = batches_per_s
        self._epoch_ns = epoch_ns

    def seconds(self, start_s: int, count: int) -> list[Sent]:
        """What is received in ``count`` seconds."""
        steps = range(start_s * self._batches_per_s, (start_s + count) * self._batches_per_s)
        return [Sent((step + 1) / self._batches_per_s, self._payload(step)) for step in steps]

    def _payload(self, step: int) -> bytes:
        count = REQUESTS_PER_S // self._batches_per_s
        end_ns = self._epoch_ns + (step + 1) * _NS // self._batches_per_s
        message = ExportTraceServiceRequest()
        of_resource = message.resource_spans.add()
        service = SERVICES[step % len(SERVICES)]
        _say(of_resource.resource.attributes, {"service.name": service, "service.instance.id": "1"})
        spans = of_resource.scope_spans.add().spans
        busy_us = self._random.integers(*_BUSY_US, count).tolist()
        for user, busy in zip(self._users(count).tolist(), busy_us, strict=True):
            said = {"enduser.id": f"u-{user}", "heatshield.call": "POST /purchases"}
            ids = self._random.bytes(24)
            begin_ns = end_ns - busy * 1_000
            spans.add(
                trace_id=ids[:16], span_id=ids[16:], name="POST /purchases", kind=_SERVER,
                start_time_unix_nano=begin_ns, end_time_unix_nano=end_ns,
            )  # fmt: skip
            _say(spans[-1].attributes, said)
        return message.SerializeToString()


def _say(attributes: Any, values: dict[str, str]) -> None:
    for key, value in values.items():
        attributes.add(key=key).value.string_value = value


def _hour(report: Report, batches_per_s: int, seconds: int, target: Target | None) -> None:
    simulation = Simulation()
    for service in SERVICES:
        simulation.breakers.attend(service, "1", WORKERS)
    traffic = _Traffic(batches_per_s, simulation.clock.time_ns())
    spent_s = processor_s = 0.0
    for start_s in range(0, seconds, CHUNK_S):
        sent = traffic.seconds(start_s, min(CHUNK_S, seconds - start_s))
        began_s, before_s = time.perf_counter(), time.process_time()
        simulation.replay(sent)
        spent_s += time.perf_counter() - began_s
        processor_s += time.process_time() - before_s
    often = "once" if batches_per_s == 1 else f"{batches_per_s} times"
    name = f"an hour of {REQUESTS_PER_S} requests/s, sent {often} a second"
    report.add(name, spent_s * HOUR_S / seconds, "s", target)
    report.add("the same, processor time", processor_s * HOUR_S / seconds, "s")
    hot = sum(row["class"] == "hot" for row in simulation.rows["findings"])
    report.add("hot users found, and breakers tripped", hot + len(simulation.rows["audit"]), "")


def run(*, quick: bool = False) -> Report:
    """Simulate the hour; a minute of it, taken sixtyfold, when it must be quick."""
    report = Report("quiet_hour", "an hour of quiet traffic on virtual time")
    seconds = QUICK_S if quick else HOUR_S
    _hour(report, 1, seconds, GOAL)
    _hour(report, 4, QUICK_S if quick else HOUR_S // 4, None)
    report.notes.append(
        "Wall time of one thread, from bytes to rounds of control; the store has no part in it."
    )
    return report


if __name__ == "__main__":
    figures.main(run)
