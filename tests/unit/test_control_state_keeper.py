"""What breakers hold is on the disk before it is announced; a disk in trouble holds up nothing."""

import logging
import threading

import pytest

from heatshield.clock import POLL_S, ManualClock
from heatshield_collector.control.state_file import KeptState, StateFile
from heatshield_collector.control.state_keeper import AGAIN_S, PATIENCE_S, StateKeeper

FORMAT = {"format": 1}


class Disk(StateFile):
    """A file on a disk that fails or hangs while it is told to."""

    def __init__(self, folder):
        super().__init__(folder)
        self.fails, self.tries = "", 0
        self.works = threading.Event()
        self.works.set()

    def write(self, state: KeptState) -> None:
        self.tries += 1
        self.works.wait()
        if self.fails:
            raise OSError(28, self.fails)
        super().write(state)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


@pytest.fixture
def keeper(disk, clock):
    made = StateKeeper(disk, clock)
    made.start()
    yield made
    disk.works.set()
    disk.fails = ""
    made.stop()


def passes(clock, holds, seconds=AGAIN_S):
    """Let virtual time pass until something holds."""
    pause = threading.Event()
    for _ in range(20_000):
        if holds():
            return
        clock.advance(seconds)
        pause.wait(POLL_S)  # the other thread's turn
    raise AssertionError("it never came to that")


def test_what_was_handed_over_is_in_the_file_on_return(disk, keeper):
    for number in range(20):
        keeper.keep(7, {**FORMAT, "n": number})
        assert disk.read() == KeptState(7, {**FORMAT, "n": number})
    assert keeper.is_written
    assert (keeper.failures, keeper.notes()) == (0, [])


def test_what_was_handed_over_before_the_start_is_written_when_it_starts(disk, clock):
    keeper = StateKeeper(disk, clock)
    keeper.keep(7, FORMAT)
    assert not disk.path.exists()
    keeper.start()
    assert disk.read() == KeptState(7, FORMAT)
    keeper.stop()


def test_a_full_disk_holds_up_nothing_and_is_logged_counted_and_said_once(
    disk, keeper, clock, caplog
):
    caplog.set_level(logging.WARNING)
    keeper.keep(7, FORMAT)
    disk.fails = "No space left on device"
    for number in range(5):
        keeper.keep(7, {**FORMAT, "n": number})
    assert not keeper.is_written
    (note,) = keeper.notes()
    assert note.startswith("breakers hold, but a restart would forget the latest")
    assert "No space left" in note
    assert keeper.failures >= 1
    assert disk.read() == KeptState(7, FORMAT)
    disk.fails = ""
    passes(clock, lambda: keeper.is_written)
    assert disk.read() == KeptState(7, {**FORMAT, "n": 4})
    assert keeper.notes() == []
    assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]


def test_it_is_tried_again_at_the_next_change(disk, keeper):
    disk.fails = "Read-only file system"
    keeper.keep(7, FORMAT)
    disk.fails = ""
    keeper.keep(7, {**FORMAT, "n": 1})
    keeper.stop()
    assert disk.read() == KeptState(7, {**FORMAT, "n": 1})


def test_a_disk_that_hangs_holds_up_one_change_for_a_moment_and_the_next_not_at_all(
    disk, keeper, clock
):
    disk.works.clear()
    told = threading.Event()

    def change():
        keeper.keep(7, FORMAT)
        told.set()

    thread = threading.Thread(target=change)
    thread.start()
    passes(clock, told.is_set, PATIENCE_S)
    thread.join()
    keeper.keep(7, {**FORMAT, "n": 1})  # the clock stands still: it would wait for ever
    (note,) = keeper.notes()
    assert "takes more than 0.15 s" in note
    disk.works.set()
    passes(clock, lambda: keeper.is_written)
    assert keeper.notes() == []
    assert disk.read() == KeptState(7, {**FORMAT, "n": 1})


def test_whatever_fails_the_thread_goes_on(disk, keeper):
    keeper.keep(7, {1j: "no key of JSON"})
    assert keeper.notes()
    keeper.keep(7, FORMAT)
    keeper.stop()
    assert disk.read() == KeptState(7, FORMAT)


def test_a_disk_that_stays_full_does_not_keep_it_from_ending(disk, clock):
    keeper = StateKeeper(disk, clock)
    keeper.start()
    disk.fails = "full"
    keeper.keep(7, FORMAT)
    keeper.stop()
    assert disk.tries == 1
