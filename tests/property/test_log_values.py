"""Whatever a service logs, its handlers get it as before, and the export is valid OTLP."""

import logging
import math
from collections import UserDict
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import SimpleNamespace

import loguru
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from heatshield.counters import COUNTERS
from heatshield.export.logs import LogEvent
from heatshield.export.payloads import encode
from heatshield.integrations.logs import logging as logging_integration
from heatshield.integrations.logs import loguru as loguru_integration
from heatshield.integrations.logs import structlog as structlog_integration
from heatshield.settings import ServiceSettings


class Raising:
    """Nothing can be asked of it."""

    def __str__(self):
        raise ValueError("no text")

    __repr__ = __iter__ = __len__ = __bool__ = __format__ = __str__


class Endless:
    """Its text is its text's text."""

    def __repr__(self):
        return repr(self)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    HUGE = 2**70


class RaisingMapping(UserDict):
    def items(self):
        raise KeyError("items")


RECURSIVE = []
RECURSIVE.append(RECURSIVE)

ODD = [
    2**63, -(2**63) - 1, 10**5_000, math.nan, -math.inf, Decimal("NaN"), 1j, Colour.RED, Size.HUGE,
    object, Raising(), Endless(), RaisingMapping(a=1), RECURSIVE, range(10**9), bytearray(b"a"),
    memoryview(b"a"), ValueError(Raising()), iter([1]),
]  # fmt: skip


def odd(index):
    return ODD[index]


TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "a" * 5_000, "\0", ""])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | TEXTS
    | st.sampled_from(range(len(ODD))).map(odd)  # some can't be shown
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = TEXTS.filter(lambda name: name.isidentifier() or "\ud800" in name or not name)


def is_hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


def records_of(events):
    """What an OTLP reader makes of them; each of the events is there."""
    dropped = COUNTERS.dropped.get("not_encodable", 0)
    found = [
        record
        for payload in encode([], events, {"service.name": "shop"})
        for of_resource in ExportLogsServiceRequest.FromString(payload.body).resource_logs
        for scope in of_resource.scope_logs
        for record in scope.log_records
    ]
    assert COUNTERS.dropped.get("not_encodable", 0) == dropped
    assert len(found) == len(events)
    return found


@given(
    time_ns=st.floats() | st.integers(),
    level=st.integers(),
    body=TEXTS,
    fields=st.dictionaries(NAMES | VALUES.filter(is_hashable), VALUES),
    logger=TEXTS,
)
def test_any_event_is_valid_otlp(time_ns, level, body, fields, logger):
    (record,) = records_of([LogEvent.here(time_ns, level, body, fields, logger)])
    assert 1 <= record.severity_number <= 24
    assert all(pair.value.WhichOneof("value") for pair in record.attributes)


class Keeping(logging.Handler):
    """What reached the service's own handler."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def emit(self, record):
        self.kept.append(record)


@pytest.fixture(scope="module")
def tapped():
    """The libraries tapped, each with a handler that keeps; the events."""
    events, keeping = [], Keeping()
    services = SimpleNamespace(
        settings=ServiceSettings(service="shop", log_rate=0, log_level="trace"), log=events.append
    )
    log = logging.getLogger("shop.any")
    log.setLevel(1)
    log.propagate = False
    log.addHandler(keeping)
    loguru.logger.remove()
    loguru.logger.add(keeping.kept.append, format=lambda _: "", catch=False, level=0)
    taps = (logging_integration, structlog_integration, loguru_integration)
    for tap in taps:
        tap.install(services)
    yield SimpleNamespace(events=events, keeping=keeping, log=log)
    for tap in taps:
        tap.remove()
    loguru.logger.remove()
    log.handlers.clear()
    structlog.reset_defaults()


def exported_once(tapped, say):
    """One thing said reached the handler once and was exported once, as valid OTLP."""
    tapped.log.handlers = [tapped.keeping]  # pytest's own would choke on some
    tapped.events.clear()
    tapped.keeping.kept.clear()
    say()
    assert len(tapped.keeping.kept) == 1
    (record,) = records_of(tapped.events)
    return record


@given(message=VALUES, arguments=st.lists(VALUES, max_size=3), extra=st.dictionaries(NAMES, VALUES))
def test_any_record_of_logging(tapped, message, arguments, extra):
    extra = {k: v for k, v in extra.items() if k not in ("message", "asctime")}
    error = ValueError(message)
    exported_once(
        tapped, lambda: tapped.log.error(message, *arguments, extra=extra, exc_info=error)
    )


@given(event=VALUES, fields=st.dictionaries(NAMES.filter(str.isidentifier), VALUES))
def test_any_event_of_structlog(tapped, event, fields):
    fields = {k: v for k, v in fields.items() if k not in ("self", "event", "method_name")}

    class Writer:
        def error(self, **said):
            tapped.keeping.kept.append(said)

    log = structlog.wrap_logger(Writer(), processors=[lambda *a: a[-1]], wrapper_class=None)
    exported_once(tapped, lambda: log.error(event, **fields))


@given(message=TEXTS, extra=st.dictionaries(NAMES.filter(str.isidentifier), VALUES))
def test_any_record_of_loguru(tapped, message, extra):
    extra = {k: v for k, v in extra.items() if not k.startswith("_")}
    record = exported_once(
        tapped, lambda: loguru.logger.bind(**extra).opt(exception=ValueError(extra)).error(message)
    )
    assert record.severity_text == "ERROR"
