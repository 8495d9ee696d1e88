"""A registry's families as OTLP metrics: pure, from ``prometheus_client``'s classes to protobuf.

The mapping is that of OpenTelemetry's specification ("Prometheus and OpenMetrics Compatibility"),
with names as ``/metrics`` shows them, ``_total`` and all, so that a query uses the same names.
Counters and histograms are cumulative, unknown metrics become gauges, info and state sets sums that
may fall; gauge histograms have no counterpart and are left out.

Written by hand, as :mod:`heatshield.export.otlp` is and on its wire format, by ``metrics.proto``:
the service need not import protobuf.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

__all__ = ["MAX_POINTS", "Encoded", "Moment", "encode"]

MAX_POINTS: Final = 10_000
"""Points of one payload, some 2 MB; a registry with more can't be scraped either."""

SCOPE: Final = "prometheus_client"

_UNITS: Final = {"seconds": "s", "bytes": "By", "ratio": "1", "celsius": "Cel"}
"""The base units of OpenMetrics in UCUM, which OpenTelemetry uses."""

_CUMULATIVE: Final = b"\x10\x02"  # aggregation_temporality
_MONOTONIC: Final = b"\x18\x01"  # is_monotonic
_FIXED64: Final = Struct("<Q").pack
_DOUBLE: Final = Struct("<d").pack

_TRACE_ID_CHARS: Final = 32
_SPAN_ID_CHARS: Final = 16


class Moment(NamedTuple):
    """When a snapshot was taken, in nanoseconds since the Unix epoch.

    Attributes:
        now_ns: the time.
        start_ns: the start of every metric that names none itself.
        fresh_ns: exemplars before this were sent already.
    """

    now_ns: int
    start_ns: int
    fresh_ns: int = 0


class Encoded(NamedTuple):
    """A payload.

    Attributes:
        body: an ExportMetricsServiceRequest.
        points: how many are in it.
        left_out: families that are not, because they are too many or broken.
    """

    body: bytes
    points: int
    left_out: int


def encode(
    families: Iterable[Metric], resource: Mapping[str, str | int], moment: Moment
) -> Encoded:
    """Encode what a registry has collected; a family that is broken is left out."""
    metrics: list[bytes] = []
    total = left_out = 0
    for family in families:
        try:
            points, body = _METRICS[family.type](family, moment)
        except Exception:  # noqa: BLE001  # a collector may be the service's own
            left_out += 1
            continue
        if total + points > MAX_POINTS:
            left_out += 1
        elif points:
            total += points
            metrics.append(body)
    scope = _message(b"\x0a", [_text(b"\x0a", SCOPE)])
    parts = [
        _message(b"\x0a", _attributes(b"\x0a", resource)),
        _message(b"\x12", [scope, *metrics]),
    ]
    return Encoded(_message(b"\x0a", parts), total, left_out)


# -- metrics ---------------------------------------------------------------------------------------


def _metric(family: Metric, suffix: str, tag: bytes, points: list[bytes], *how: bytes) -> bytes:
    parts = [_text(b"\x0a", family.name + suffix), _text(b"\x12", family.documentation)]
    if family.unit:
        parts.append(_text(b"\x1a", _UNITS.get(family.unit, family.unit)))
    parts.append(_message(tag, [*points, *how]))
    return _message(b"\x12", parts)


def _gauge(family: Metric, moment: Moment) -> tuple[int, bytes]:
    points = [_number(sample, moment, 0) for sample in family.samples]
    return len(points), _metric(family, "", b"\x2a", points)


def _states(family: Metric, moment: Moment) -> tuple[int, bytes]:
    suffix = "_info" if family.type == "info" else ""
    points = [_number(sample, moment, moment.start_ns) for sample in family.samples]
    return len(points), _metric(family, suffix, b"\x3a", points, _CUMULATIVE)


def _counter(family: Metric, moment: Moment) -> tuple[int, bytes]:
    points = [
        _number(sample, moment, group.start_ns)
        for group in _groups(family, moment)
        for sample in group.of("_total")
    ]
    return len(points), _metric(family, "_total", b"\x3a", points, _CUMULATIVE, _MONOTONIC)


def _histogram(family: Metric, moment: Moment) -> tuple[int, bytes]:
    points = [_buckets(group, moment) for group in _groups(family, moment)]
    return len(points), _metric(family, "", b"\x4a", points, _CUMULATIVE)


def _summary(family: Metric, moment: Moment) -> tuple[int, bytes]:
    points = [_quantiles(group, moment) for group in _groups(family, moment)]
    return len(points), _metric(family, "", b"\x5a", points)


def _nothing(_family: Metric, _moment: Moment) -> tuple[int, bytes]:
    return 0, b""


_METRICS: Final[Mapping[str, Callable[[Metric, Moment], tuple[int, bytes]]]] = {
    "counter": _counter,
    "gauge": _gauge,
    "unknown": _gauge,
    "histogram": _histogram,
    "summary": _summary,
    "info": _states,
    "stateset": _states,
    "gaugehistogram": _nothing,
}


# -- points ----------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """The samples of a family that make one point, or one counter.

    Attributes:
        labels: without ``le`` and ``quantile``.
        samples: suffix of the name to samples.
        start_ns: since when they count.
    """

    labels: Mapping[str, str]
    samples: dict[str, list[Sample]]
    start_ns: int

    def of(self, suffix: str) -> Sequence[Sample]:
        return self.samples.get(suffix, ())

    def value(self, suffix: str) -> float | None:
        return next((float(sample.value) for sample in self.of(suffix)), None)


def _groups(family: Metric, moment: Moment) -> Iterator[_Group]:
    own = {"histogram": "le", "summary": "quantile"}.get(family.type)
    by_labels: dict[tuple[tuple[str, str], ...], dict[str, list[Sample]]] = {}
    for sample in family.samples:
        labels = tuple(sorted(pair for pair in sample.labels.items() if pair[0] != own))
        suffix = sample.name.removeprefix(family.name)
        by_labels.setdefault(labels, {}).setdefault(suffix, []).append(sample)
    for labels, samples in by_labels.items():
        created = samples.pop("_created", None)
        start_ns = _ns(created[0].value) if created else moment.start_ns
        if samples:
            yield _Group(dict(labels), samples, start_ns)


def _number(sample: Sample, moment: Moment, start_ns: int) -> bytes:
    at_ns = moment.now_ns if sample.timestamp is None else _ns(sample.timestamp)
    parts = [*_attributes(b"\x3a", sample.labels), *_times(start_ns, at_ns)]
    parts.append(b"\x21" + _DOUBLE(sample.value))  # as_double
    parts.extend(_exemplars(b"\x2a", [sample], moment))
    return _message(b"\x0a", parts)


def _buckets(group: _Group, moment: Moment) -> bytes:
    cumulative = sorted(
        ((float(sample.labels["le"]), float(sample.value)) for sample in group.of("_bucket")),
    )
    bounds = [bound for bound, _ in cumulative if bound != math.inf]
    reached = [count for _, count in cumulative]
    if len(bounds) == len(cumulative):  # there is no bucket for all
        reached.append(group.value("_count") or 0.0)
    # Never negative: a bucket may have been counted while this was collected.
    counts = [
        max(0, int(up_to - below)) for below, up_to in zip([0.0, *reached], reached, strict=False)
    ]
    parts = [*_attributes(b"\x4a", group.labels), *_times(group.start_ns, moment.now_ns)]
    parts.append(b"\x21" + _FIXED64(sum(counts)))  # count
    total = group.value("_sum")
    if total is not None:
        parts.append(b"\x29" + _DOUBLE(total))  # sum
    parts.append(_bytes(b"\x32", b"".join(map(_FIXED64, counts))))  # bucket_counts
    parts.append(_bytes(b"\x3a", b"".join(map(_DOUBLE, bounds))))  # explicit_bounds
    parts.extend(_exemplars(b"\x42", group.of("_bucket"), moment))
    return _message(b"\x0a", parts)


def _quantiles(group: _Group, moment: Moment) -> bytes:
    parts = [*_attributes(b"\x3a", group.labels), *_times(group.start_ns, moment.now_ns)]
    parts.append(b"\x21" + _FIXED64(int(group.value("_count") or 0)))  # count
    parts.append(b"\x29" + _DOUBLE(group.value("_sum") or 0.0))  # sum
    for sample in group.of(""):
        quantile = b"\x09" + _DOUBLE(float(sample.labels["quantile"]))
        parts.append(_bytes(b"\x32", quantile + b"\x11" + _DOUBLE(sample.value)))
    return _message(b"\x0a", parts)


def _times(start_ns: int, at_ns: int) -> Iterator[bytes]:
    if start_ns:
        yield b"\x11" + _FIXED64(start_ns)  # start_time_unix_nano
    yield b"\x19" + _FIXED64(at_ns)  # time_unix_nano


def _exemplars(tag: bytes, samples: Iterable[Sample], moment: Moment) -> Iterator[bytes]:
    for sample in samples:
        if sample.exemplar is not None:
            at_s = sample.exemplar.timestamp
            at_ns = moment.now_ns if at_s is None else _ns(at_s)
            if at_ns >= moment.fresh_ns:
                yield _message(tag, _exemplar(sample.exemplar, at_ns))


def _exemplar(exemplar: Exemplar, at_ns: int) -> Iterator[bytes]:
    yield b"\x11" + _FIXED64(at_ns)  # time_unix_nano
    yield b"\x19" + _DOUBLE(exemplar.value)  # as_double
    labels = dict(exemplar.labels)
    for name, tag, chars in (
        ("span_id", b"\x22", _SPAN_ID_CHARS), ("trace_id", b"\x2a", _TRACE_ID_CHARS),
    ):  # fmt: skip
        if len(labels.get(name, "")) == chars:
            yield _bytes(tag, bytes.fromhex(labels.pop(name)))
    yield from _attributes(b"\x3a", labels)  # filtered_attributes


def _ns(seconds: object) -> int:
    return max(0, round(float(seconds) * 1e9))  # type: ignore[arg-type]  # float or Timestamp


# -- protobuf --------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004  # seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(tag: bytes, data: bytes) -> bytes:
    return tag + _varint(len(data)) + data


def _text(tag: bytes, text: str) -> bytes:
    return _bytes(tag, text.encode("utf-8", "replace"))


def _message(tag: bytes, parts: Iterable[bytes]) -> bytes:
    return _bytes(tag, b"".join(parts))


def _attributes(tag: bytes, attributes: Mapping[str, str | int]) -> Iterator[bytes]:
    for key, value in attributes.items():
        said = _text(b"\x0a", value) if isinstance(value, str) else b"\x18" + _varint(value)
        yield _message(tag, [_text(b"\x0a", key), _bytes(b"\x12", said)])
