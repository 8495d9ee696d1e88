"""The local kill switch: what throws it, how fast, and what lifts it."""

import os
import signal
import threading
import time

import pytest

from heatshield.breakers.kill_switch import LOOK_S, KillSwitch
from heatshield.breakers.lease_table import BreakerTable, Reason
from heatshield.clock import ManualClock
from heatshield.contract import BreakerEntry, PlatformMode, Snapshot, StateVersion
from heatshield.process.signal_toggle import SignalToggle
from heatshield.resilience.downstream import Downstream


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def table(clock):
    held = BreakerTable("shop")
    entry = BreakerEntry("b-1", "u-1", "shop", "buy", issuer="human:jo")
    held.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,)), clock.monotonic())
    return held


@pytest.fixture
def switch(table, clock, tmp_path):
    """Thrown by ``tmp_path/off``, by SIGUSR2, and by code."""
    downstream = Downstream()
    made = KillSwitch((table, downstream), clock, file=str(tmp_path / "off"), signal="SIGUSR2")
    made.downstream = downstream
    yield made
    made.stop()


@pytest.fixture
def own_handler():
    """A handler that the service has set; the signals it got."""
    got = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: got.append(number))
    yield got
    signal.signal(signal.SIGUSR2, before)


def refuses(table, clock):
    return not table.decide("u-1", "buy", clock.monotonic()).allowed


def until(holds):
    ends = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_a_file_throws_it_and_its_removal_lifts_it(switch, table, clock, tmp_path, capsys):
    """Each within one look, which is well below a second."""
    assert LOOK_S <= 0.5
    switch.start()
    until(lambda: clock.waiting)
    assert refuses(table, clock)
    (tmp_path / "off").touch()
    clock.advance(LOOK_S)
    until(lambda: not refuses(table, clock))
    assert table.decide("u-1", "buy", clock.monotonic()).reason is Reason.SWITCHED_OFF
    assert not switch.downstream.enforce
    assert switch.causes == ("file",)
    (tmp_path / "off").unlink()
    until(lambda: clock.waiting)
    clock.advance(LOOK_S)
    until(lambda: refuses(table, clock))
    assert switch.downstream.enforce
    until(lambda: clock.waiting)
    switch.stop()
    assert capsys.readouterr().err.splitlines() == [
        f"heatshield: kill switch thrown by file {tmp_path / 'off'}: this process refuses no call",
        "heatshield: kill switch lifted: this process enforces breakers again",
    ]


def test_a_file_that_is_there_already_throws_it_at_the_start(switch, table, clock, tmp_path):
    (tmp_path / "off").touch()
    switch.start()
    until(lambda: not refuses(table, clock))


def test_whoever_threw_it_has_to_let_go(switch, table, clock, tmp_path):
    (tmp_path / "off").touch()
    switch.enforce(False)
    assert not refuses(table, clock)
    switch.start()
    until(lambda: switch.causes == ("code", "file"))
    switch.enforce(True)
    assert not refuses(table, clock)
    (tmp_path / "off").unlink()
    until(lambda: clock.waiting)
    clock.advance(LOOK_S)
    until(lambda: refuses(table, clock))


def test_a_setting_throws_it_from_the_start_and_code_lifts_it(table, clock):
    switch = KillSwitch((table,), clock, enforce=False)
    assert switch.causes == ("setting",)
    assert not refuses(table, clock)
    switch.enforce(True)
    assert refuses(table, clock)


@pytest.mark.parametrize("path", ["", "\0", "/etc/passwd/off", "/nowhere/at/all"])
def test_a_path_where_no_file_can_be_throws_nothing(table, clock, path):
    switch = KillSwitch((table,), clock, file=path)
    switch.start()
    until(lambda: clock.waiting)
    assert refuses(table, clock)
    switch.stop()


def test_what_can_not_be_looked_at_leaves_it_as_it_was(switch, table, clock, tmp_path, monkeypatch):
    (tmp_path / "off").touch()
    switch.start()
    until(lambda: not refuses(table, clock) and clock.waiting)

    def denied(path):
        raise PermissionError(path)

    monkeypatch.setattr("heatshield.breakers.kill_switch.Path.stat", denied)
    for _ in range(4):
        clock.advance(LOOK_S)
        until(lambda: clock.waiting)
    assert not refuses(table, clock)


def test_a_signal_toggles_it_and_reaches_the_services_handler(own_handler, switch, table, clock):
    switch.start()
    signal.raise_signal(signal.SIGUSR2)
    assert not refuses(table, clock)
    assert switch.causes == ("signal",)
    assert own_handler == [signal.SIGUSR2]
    signal.raise_signal(signal.SIGUSR2)
    assert refuses(table, clock)
    assert len(own_handler) == 2


def test_a_handler_set_later_is_chained_once_the_process_serves(switch, table, clock, own_handler):
    """gunicorn's workers and services set theirs after heatshield began."""
    switch.signal.arm()
    ours = signal.getsignal(signal.SIGUSR2)
    got = []

    def theirs(number, frame):
        got.append(number)
        ours(number, frame)  # as well-behaved services do; it must not toggle twice

    signal.signal(signal.SIGUSR2, theirs)
    assert not switch.signal.armed
    switch.start()
    signal.raise_signal(signal.SIGUSR2)
    assert not refuses(table, clock)
    assert got == [signal.SIGUSR2]


def test_the_end_gives_the_signal_back(own_handler, table, clock):
    before = signal.getsignal(signal.SIGUSR2)
    switch = KillSwitch((table,), clock, signal="SIGUSR2")
    switch.start()
    assert signal.getsignal(signal.SIGUSR2) != before
    switch.stop()
    assert signal.getsignal(signal.SIGUSR2) is before


def test_another_thread_than_the_main_one_handles_no_signal(own_handler, table, clock, capsys):
    """There Python refuses to set handlers: it is said, and the file goes on to work."""
    switch = KillSwitch((table,), clock, signal="SIGUSR2")
    thread = threading.Thread(target=switch.start)
    thread.start()
    thread.join()
    until(lambda: clock.waiting)
    assert not switch.status()["signal_handled"]
    switch.stop()
    assert "SIGUSR2 does not throw the kill switch" in capsys.readouterr().err


def test_a_signal_that_the_system_does_not_have_is_none():
    toggle = SignalToggle("SIGNONE", lambda: None)
    toggle.arm()
    assert not toggle.armed


def test_realtime_signals_are_counted_from_the_first():
    toggle = SignalToggle("SIGRTMIN+2", lambda: None)
    toggle.arm()
    assert signal.getsignal(signal.SIGRTMIN + 2) == toggle._handle
    toggle.disarm()


def test_a_child_keeps_what_was_thrown_and_looks_with_a_thread_of_its_own(
    switch, table, clock, tmp_path
):
    (tmp_path / "off").touch()
    switch.start()
    until(lambda: not refuses(table, clock))
    child = os.fork()
    if child == 0:
        try:
            switch.after_fork()
            kept = not refuses(table, clock) and not switch.started
            (tmp_path / "off").unlink()
            switch.start()
            until(lambda: refuses(table, clock))
            os._exit(0 if kept else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
