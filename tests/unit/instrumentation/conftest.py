"""A service that is instrumented in this process, with its threads left out."""

import logging

import pytest
from opentelemetry.context import Context, attach, detach

from heatshield import runtime
from heatshield.breakers.watch import Watch
from heatshield.charges.reporter import Reporter
from heatshield.clock import ManualClock
from heatshield.contract import BreakerEntry, PlatformMode, Snapshot, StateVersion
from heatshield.export.exporter import Exporter
from heatshield.metrics.service import ServiceMetrics
from heatshield.settings import ServiceSettings
from heatshield.tracing.span import Span


class Service:
    """What an instrumented service sent, and the breakers that it holds."""

    def __init__(self):
        self.clock = ManualClock()
        self.spans = []
        self.logs = []
        self._entries = []

    @property
    def runtime(self):
        return runtime._RUNNING.get()

    def trip(self, user, call, **more):
        name = f"b-{len(self._entries) + 1}"
        self._entries.append(BreakerEntry(name, user, "shop", call, **more))
        at = StateVersion(1, len(self._entries))
        snapshot = Snapshot(at, PlatformMode.PROTECT, tuple(self._entries))
        self.runtime.table.apply(snapshot, self.clock.monotonic())
        return name

    def span(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture(autouse=True)
def _nobody_acts():
    """Each test begins outside of any request: others name users for good."""
    token = attach(Context())
    yield
    detach(token)


@pytest.fixture
def service(monkeypatch):
    """Call it with settings to instrument this process until the test ends."""
    made = Service()
    monkeypatch.setattr(Watch, "start", lambda _: None)
    monkeypatch.setattr(ServiceMetrics, "start", lambda _: None)
    monkeypatch.setattr(Reporter, "start", lambda _: None)
    monkeypatch.setattr(
        Exporter,
        "on_end",
        lambda _, span: made.spans.append(span if isinstance(span, Span) else Span.read(span)),
    )
    monkeypatch.setattr(Exporter, "log", lambda _, event: made.logs.append(event))

    def begin(**settings):
        runtime.begin(ServiceSettings(service="shop", **settings), made.clock)
        return made

    yield begin
    runtime.end()


@pytest.fixture
def log():
    logger = logging.getLogger("shop.tests")
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()
    logger.filters.clear()
    logger.propagate = True
