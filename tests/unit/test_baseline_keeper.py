"""The file of what is usual: written twice a minute and at the end, read once, trusted if whole."""

import os
import stat

import pytest
from charge_rows import charge, linked

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import ManualClock
from heatshield_collector.control.baseline_keeper import (
    BASELINES_FILE,
    KEEP_EVERY_S,
    BaselineKeeper,
)
from heatshield_collector.detect import Detection

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")
EPOCH_NS = 1_700_000_000 * 10**9


def keeper(folder, clock):
    detection = Detection(lambda _: 8.0)
    return BaselineKeeper(detection, folder, clock), detection


@pytest.fixture
def clock():
    return ManualClock(epoch_ns=EPOCH_NS)


@pytest.fixture
def kept(tmp_path, clock):
    """A folder in which a collector with a busy user has ended."""
    ended, detection = keeper(tmp_path, clock)
    for _ in range(12):
        detection.observe(linked([charge("u-1", 2_000)]), clock.now())
        clock.advance(10.0)
    ended.start()
    ended.stop()
    return tmp_path


def usual(folder, clock):
    """What the next collector takes for usual."""
    later, detection = keeper(folder, clock)
    later.restore()
    return detection.loads.baseline_of(KEY, clock.monotonic())


def test_what_is_usual_is_known_to_the_next_collector(kept, clock, caplog):
    caplog.set_level("INFO")
    clock.advance(60.0)
    assert usual(kept, clock) == pytest.approx(0.2)
    assert "known from 60 s ago" in caplog.text
    assert stat.S_IMODE((kept / BASELINES_FILE).stat().st_mode) == 0o600


def test_the_first_start_knows_nothing_and_says_nothing(tmp_path, clock, caplog):
    assert usual(tmp_path, clock) == 0.0
    assert not caplog.records


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content.replace(b"baselines 1", b"baselines 2"),
        lambda _: b"",
    ],
)
def test_a_damaged_file_is_logged_and_left_alone(kept, clock, caplog, damage):
    path = kept / BASELINES_FILE
    path.write_bytes(damage(path.read_bytes()))
    assert usual(kept, clock) == 0.0
    assert "what was usual is not known again" in caplog.text


def test_what_is_hours_old_is_logged_and_left_alone(kept, clock, caplog):
    clock.advance(7_200.0)
    assert usual(kept, clock) == 0.0
    assert "it is 120 minutes old" in caplog.text


def test_a_wall_clock_that_was_set_back_makes_it_no_older(kept):
    assert usual(kept, ManualClock(epoch_ns=EPOCH_NS - 10**13)) == pytest.approx(0.2)


def test_it_is_written_twice_a_minute_and_not_in_between(tmp_path, clock):
    running, _ = keeper(tmp_path, clock)
    written = []
    running.keep = lambda: written.append(clock.monotonic())
    start_s = clock.monotonic()
    running.start()
    for number in range(1, 4):
        while not clock.waiting:
            os.sched_yield()
        clock.advance(KEEP_EVERY_S)
        while len(written) < number:
            os.sched_yield()
    running.stop()
    assert [at_s - start_s for at_s in written[:3]] == [30.0, 60.0, 90.0]
    assert len(written) == 4, "and at the end"


def test_a_disk_that_fails_is_counted_and_logged_once(tmp_path, clock, caplog):
    failing, _ = keeper(tmp_path / "nowhere", clock)
    failing.keep()
    failing.keep()
    assert failing.failures == 2
    assert caplog.text.count("is not kept for a restart") == 1
