"""Every store passes the suites of both protocols: the embedded one, and the simplest there is."""

import pytest
from control_store_suite import ControlStoreSuite
from memory_store import MemoryStore
from telemetry_store_suite import TelemetryStoreSuite

from heatshield_collector.store import DuckDBStore


class Embedded:
    @pytest.fixture
    def store(self, tmp_path):
        opened = DuckDBStore(tmp_path)
        yield opened
        opened.close()


class InMemory:
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestEmbeddedTelemetry(Embedded, TelemetryStoreSuite):
    pass


class TestEmbeddedControl(Embedded, ControlStoreSuite):
    pass


class TestMemoryTelemetry(InMemory, TelemetryStoreSuite):
    pass


class TestMemoryControl(InMemory, ControlStoreSuite):
    pass
