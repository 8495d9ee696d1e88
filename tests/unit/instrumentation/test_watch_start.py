"""A process without descriptors or threads to spare: nothing of it reaches the service."""

import errno
import threading

import pytest
from opentelemetry.trace import get_tracer

from heatshield import native
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.watch import RESTART_S, Watch
from heatshield.clock import ManualClock
from heatshield.counters import COUNTERS
from heatshield.export.exporter import Exporter
from heatshield.settings import ServiceSettings


class Exhausted:
    """Stands in for a system call that finds nothing left."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *_):
        self.calls += 1
        raise OSError(errno.EMFILE, "too many open files")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def watch(clock):
    made = Watch(
        "http://127.0.0.1:9", BreakerTable("shop"), clock,
        service="shop", instance=lambda: "i-1", workers=1,
    )  # fmt: skip
    yield made
    made.stop()


@pytest.mark.parametrize(("owner", "name"), [(native, "socketpair"), (threading.Thread, "start")])
def test_a_start_that_fails_is_counted_and_tried_again_after_a_while_only(
    watch, clock, monkeypatch, owner, name
):
    errors = COUNTERS.errors.get("watch start", 0)
    exhausted = Exhausted()
    with monkeypatch.context() as system:
        system.setattr(owner, name, exhausted)
        for _ in range(5):
            watch.start()
        assert exhausted.calls == 1
        clock.advance(RESTART_S + 1)
        watch.start()
    assert exhausted.calls == 2
    assert not watch.started
    assert COUNTERS.errors["watch start"] == errors + 2
    clock.advance(RESTART_S + 1)
    watch.start()
    assert watch.started


def test_spans_start_and_end_whatever_fails_behind_them(service, clock, monkeypatch):
    running = service()

    def failing(*_):
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(Watch, "start", failing)
    monkeypatch.setattr(type(running.runtime.exporter), "on_end", failing)
    before = COUNTERS.errors.get("span end", 0)
    with get_tracer("test").start_as_current_span("served"):
        pass
    assert COUNTERS.errors["span end"] == before + 1


def test_an_export_thread_that_cannot_start_is_tried_again(clock, monkeypatch):
    exporter = Exporter(ServiceSettings(endpoint="http://127.0.0.1:9"), clock, dict)
    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", Exhausted())
        exporter.log(None)
    assert exporter._thread is None
