"""A recording of telemetry, made from a seed: what a small platform's services would have sent.

A gateway calls a shop, which keeps its data in Redis; each sends what it has twice a second.
The recording has what makes replays differ where something random or unordered decides: users who
are named late or only by an inner span, requests without a user, spans that name different users,
batches that come late and out of order, batches that come twice, users whose names hash alike in no
two processes, and one user who burns the shop for a while and stops.
"""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

EPOCH_NS: Final = 1_700_000_000 * 10**9
STEP_S: Final = 0.5
HOT: Final = "u-hot"
BURNS_S: Final = (22.0, 25.0)
LASTS_S: Final = 44.0
PURCHASE: Final = "POST /purchases"


class Sent(NamedTuple):
    """A payload, and when it is received."""

    at_s: float
    payload: bytes


def recording(seed: int = 1, *, hot: bool = True) -> list[Sent]:
    """Payloads by the time of their arrival; without the user who burns the shop if not ``hot``."""
    chance = random.Random(seed)
    sent = []
    for step in range(round(LASTS_S / STEP_S)):
        at_s = (step + 1) * STEP_S
        batches = _batches(chance, at_s, hot=hot)
        for service, spans in batches.items():
            payload = _payload(service, f"{service}-{chance.randrange(2)}", spans)
            late_s = chance.choice([0.0] * 8 + [0.5, 3.0])
            sent.append(Sent(at_s + late_s, payload))
            if chance.random() < 0.1:  # its ack was lost, so it is sent again
                sent.append(Sent(at_s + late_s + 1.0, payload))
    return sorted(sent, key=lambda one: one.at_s)


def _batches(chance: random.Random, at_s: float, *, hot: bool) -> dict[str, list[Span]]:
    batches: dict[str, list[Span]] = {"gateway": [], "shop": []}
    users = [f"u-{min(int(chance.expovariate(0.2)), 40)}" for _ in range(10)]
    costs_ms = [chance.lognormvariate(1.0, 0.5) for _ in users]
    if hot and BURNS_S[0] <= at_s < BURNS_S[1]:
        users += [HOT] * 10
        costs_ms += [60.0 + chance.random()] * 10
    for user, cost_ms in zip(users, costs_ms, strict=True):
        for service, span in _request(chance, at_s, user, cost_ms):
            batches[service].append(span)
    for spans in batches.values():
        chance.shuffle(spans)
    return batches


def _request(
    chance: random.Random, at_s: float, user: str, cost_ms: float
) -> Iterator[tuple[str, Span]]:
    """The spans of one request; who names its user differs."""
    trace = chance.randbytes(16)
    names = {"entry": {}, "server": {}, "guard": {}}
    where = chance.choice(["entry"] * 6 + ["server", "guard", "none", "both"])
    if user == HOT:
        where = "entry"
    if where in names:
        names[where] = {"enduser.id": user}
    elif where == "both":
        names = {"entry": {"enduser.id": user}, "server": {"enduser.id": f"{user}-alias"}}
    entry, call, server, guard, redis = (chance.randbytes(8) for _ in range(5))
    end_ns = EPOCH_NS + round((at_s - chance.random() * STEP_S) * 1e9)
    begin_ns = end_ns - round(cost_ms * 1e6)
    part = (end_ns - begin_ns) // 10
    at = {"heatshield.call": PURCHASE}
    yield "gateway", _span(trace, entry, b"", PURCHASE, 2, begin_ns, end_ns, names["entry"] | at)
    yield "gateway", _span(trace, call, entry, "POST", 3, begin_ns + part, end_ns - part, at)
    yield (
        "shop",
        _span(
            trace, server, call, PURCHASE, 2, begin_ns + part, end_ns - part, names["server"] | at
        ),
    )
    inner = {"heatshield.call": "ownership.refresh"} | names.get("guard", {})
    yield (
        "shop",
        _span(
            trace,
            guard,
            server,
            "ownership.refresh",
            1,
            begin_ns + 2 * part,
            end_ns - 2 * part,
            inner,
        ),
    )
    yield (
        "shop",
        _span(
            trace,
            redis,
            guard,
            "SISMEMBER",
            3,
            begin_ns + 3 * part,
            end_ns - 3 * part,
            {"db.system": "redis", "heatshield.cost.elements": chance.randrange(9), **inner},
        ),
    )


def _span(
    trace: bytes,
    own: bytes,
    parent: bytes,
    name: str,
    kind: int,
    begin_ns: int,
    end_ns: int,
    attributes: dict[str, str | int],
) -> Span:
    return Span(
        trace_id=trace,
        span_id=own,
        parent_span_id=parent,
        name=name,
        kind=kind,
        start_time_unix_nano=begin_ns,
        end_time_unix_nano=end_ns,
        attributes=[_attribute(key, value) for key, value in attributes.items()],
    )


def _attribute(key: str, value: str | int) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _payload(service: str, instance: str, spans: list[Span]) -> bytes:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.extend(
        [_attribute("service.name", service), _attribute("service.instance.id", instance)]
    )
    of_resource.scope_spans.add().spans.extend(spans)
    return request.SerializeToString()
