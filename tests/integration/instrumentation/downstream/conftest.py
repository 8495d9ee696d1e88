"""A shop that fails on command, and the integrations that stand before calls to it."""

from types import SimpleNamespace

import pytest
import stamina
from failing_shop import Shop

from heatshield.clock import ManualClock
from heatshield.counters import COUNTERS
from heatshield.integrations.clients import downstream_httpx, downstream_requests
from heatshield.resilience.attempts import RETRIES, Retries
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.settings import ServiceSettings


@pytest.fixture
def shop():
    made = Shop()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch):
    stamina.instrumentation.set_on_retry_hooks([])
    fresh = Retries()
    for name, value in vars(fresh).items():
        monkeypatch.setattr(RETRIES, name, value)
    yield ManualClock()
    stamina.instrumentation.set_on_retry_hooks(None)


@pytest.fixture
def install(clock):
    """Install both integrations with these settings, on a clock that stands still."""

    def installed(**settings):
        services = SimpleNamespace(settings=ServiceSettings(**settings))
        downstream_httpx.install(services)
        downstream_requests.install(services)
        DOWNSTREAM.monotonic = RETRIES.monotonic = clock.monotonic

    before = COUNTERS.errors
    yield installed
    downstream_httpx.remove()
    downstream_requests.remove()
    assert COUNTERS.errors == before
