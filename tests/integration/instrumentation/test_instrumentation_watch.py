"""The thread that keeps the breaker table true, against a real stream."""

import os
import resource
import socket
import time

import pytest

from heatshield import runtime
from heatshield.breakers.event_stream import EventStream
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import SystemClock
from heatshield.export.connection import Connection


@pytest.fixture
def watch(collector):
    table = BreakerTable("shop")
    made = Watch(
        collector.endpoint, table, SystemClock(),
        service="shop", instance=lambda: "i-1", workers=3, chance=lambda: 0.0,
    )  # fmt: skip
    made.table = table
    made.start()
    yield made
    made.stop()


def decide(watch, user="u-1", call="buy"):
    return watch.table.decide(user, call, time.monotonic())


def test_a_grant_is_enforced_and_reported_as_applied_at_once(watch, collector, until):
    until(lambda: watch.table.at == (1, 1))
    assert collector.listeners[0][0] == {"service": "shop", "instance": "i-1"}
    started = time.monotonic()
    collector.grant("u-1", "buy")
    until(lambda: any(report["applied"] == "1.2" for _, report in collector.reports))
    assert not decide(watch).allowed
    assert time.monotonic() - started < 0.25


def test_rejections_are_reported_within_a_second(watch, collector, until):
    entry_id = collector.grant("u-1", "buy")
    until(lambda: not decide(watch).allowed)
    decide(watch)
    (rows,) = until(
        lambda: [report["rejected"] for _, report in collector.reports if report["rejected"]],
        timeout_s=2.5,
    )
    assert [(row["id"], row["user"], row["call"]) for row in rows] == [(entry_id, "u-1", "buy")]


def test_an_instance_reports_its_capacity_when_it_arrives(watch, collector, until):
    _, report = until(lambda: collector.reports)[0]
    assert (report["service"], report["instance"], report["workers"]) == ("shop", "i-1", 3)


def test_a_lost_delta_is_made_up_for_by_a_snapshot(watch, collector, until):
    until(lambda: watch.table.at == (1, 1))
    collector.state["version"] = 5
    collector.grant("u-1", "buy")  # a delta on 1.5, which this client never saw
    until(lambda: watch.table.at == (1, 6))
    assert not decide(watch).allowed


def test_a_heartbeat_that_is_ahead_brings_a_snapshot(watch, collector, until):
    until(lambda: watch.table.at == (1, 1))
    collector.state["version"] = 9
    until(lambda: watch.table.at == (1, 9))


def test_garbage_changes_nothing_and_the_client_comes_back(watch, collector, until):
    collector.grant("u-1", "buy")
    until(lambda: not decide(watch).allowed)
    listened = len(collector.listeners)
    collector.push("delta", {"base": "1.2", "upsert": "everything"})
    until(lambda: len(collector.listeners) > listened)
    assert not decide(watch).allowed
    assert decide(watch, user="u-2").allowed
    assert collector.listeners[-1][1] == "1.2", "it says which version it holds"


def test_a_stream_that_ends_is_opened_again(watch, collector, until):
    until(lambda: collector.streams)
    collector.drop_streams()
    until(lambda: len(collector.listeners) == 2)
    collector.grant("u-1", "buy")
    until(lambda: not decide(watch).allowed)


def test_a_collector_with_an_older_epoch_is_not_believed(watch, collector, until):
    collector.state.update(epoch=7)
    collector.grant("u-1", "buy")
    until(lambda: watch.table.at == (7, 2))
    collector.state.update(epoch=2, version=1, entries=[])
    collector.drop_streams()
    until(lambda: len(collector.listeners) == 2)
    time.sleep(0.3)
    assert watch.table.at == (7, 2)


def test_stopping_does_not_wait(watch, until):
    until(lambda: watch.table.at)
    started = time.monotonic()
    watch.stop()
    assert time.monotonic() - started < 1.0
    assert not watch._thread.is_alive()


class HighDescriptor:
    """A socket under a number that ``select()`` refuses."""

    def __init__(self, sock, number):
        self._number = os.dup2(sock.fileno(), number)

    def fileno(self):
        return self._number

    def close(self):
        os.close(self._number)


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2_048:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2_048, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_a_stream_is_waited_on_under_descriptors_that_select_refuses(collector):
    waker, wake = socket.socketpair()
    with waker, wake:
        high = HighDescriptor(wake, 1_500)
        connection = Connection(collector.endpoint, 3.0, SystemClock())
        stream = EventStream(connection, {"service": "shop"}, None, SystemClock())
        try:
            heard = [event for _ in range(3) for event in stream.wait(5.0, high)]
            assert heard[0].name == "snapshot"
            waker.send(b"!")
            started = time.monotonic()
            while stream.wait(5.0, high):
                pass
            assert time.monotonic() - started < 1.0
        finally:
            stream.close()
            high.close()


def test_no_collector_at_all_is_no_trouble():
    table = BreakerTable("shop")
    lonely = Watch(
        "http://127.0.0.1:9", table, SystemClock(), service="s", instance=lambda: "i", workers=1
    )
    lonely.start()
    time.sleep(0.3)
    lonely.stop()
    assert table.decide("u-1", "buy", 0.0).allowed
    assert not lonely._thread.is_alive()
    assert runtime.status()["instrumented"] is False
