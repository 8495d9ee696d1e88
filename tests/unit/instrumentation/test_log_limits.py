"""The limit of records per call site: what passes, what is counted, and when it is told."""

import threading

import pytest

from heatshield.export import log_limits
from heatshield.export.log_limits import LogLimits

HERE = ("shop", "/srv/shop.py", 7, "buy", 20)


def admitted(limits, count, now_s, place=HERE):
    return sum(limits.admit(*place, now_s) is not None for _ in range(count))


def told(suppressed):
    return [(site and site.line, records) for site, records in suppressed]


def test_the_first_records_of_each_second_pass_and_the_rest_is_told_once():
    limits = LogLimits(3)
    assert admitted(limits, 10, 100.0) == 3
    assert limits.ended(100.9) == []
    assert limits.suppressing
    assert admitted(limits, 5, 101.0) == 3
    assert told(limits.ended(101.0)) == [(7, 7)]
    assert told(limits.ended(102.0)) == [(7, 2)]
    assert not limits.suppressing
    assert limits.end() == []


def test_the_end_tells_what_no_period_has_told_yet():
    limits = LogLimits(1)
    admitted(limits, 4, 100.0)
    assert told(limits.end()) == [(7, 3)]


def test_call_sites_count_apart_and_so_do_levels_of_one_line():
    limits = LogLimits(2)
    error = (*HERE[:4], 40)
    elsewhere = ("shop", "/srv/shop.py", 8, "buy", 20)
    for place in (HERE, error, elsewhere):
        assert admitted(limits, 5, 100.0, place) == 2
    assert {site.severity_text for site, _ in limits.end()} == {"INFO", "ERROR"}


def test_zero_sends_all():
    limits = LogLimits(0)
    assert admitted(limits, 10_000, 100.0) == 10_000
    assert not limits.suppressing


@pytest.mark.parametrize(("per_second", "after_s"), [(0.5, 2.0), (0.001, 1_000.0), (1e-9, 3_600.0)])
def test_less_than_one_a_second_is_one_in_a_longer_time(per_second, after_s):
    limits = LogLimits(per_second)
    assert admitted(limits, 5, 100.0) == 1
    assert admitted(limits, 5, 100.0 + after_s * 0.99) == 0
    assert admitted(limits, 5, 100.0 + after_s) == 1


def test_too_many_call_sites_share_one_count(monkeypatch):
    monkeypatch.setattr(log_limits, "MAX_SITES", 10)
    limits = LogLimits(2)
    for line in range(10):
        assert limits.admit("shop", "/srv/shop.py", line, "buy", 20, 100.0) is not None
    others = [("shop", "/srv/shop.py", line, "buy", 20) for line in range(100, 150)]
    passed = [limits.admit(*place, 100.5) for place in others]
    assert [site and site.line for site in passed[:3]] == [100, 101, None]
    assert told(limits.ended(200.0)) == [(None, 48)]


def test_call_sites_that_fell_silent_make_room(monkeypatch):
    monkeypatch.setattr(log_limits, "MAX_SITES", 10)
    limits = LogLimits(2)
    for line in range(10):
        limits.admit("shop", "/srv/shop.py", line, "buy", 20, 100.0)
    assert admitted(limits, 5, 102.0) == 2
    assert told(limits.end()) == [(7, 3)], "a call site of its own again"


def test_a_full_table_is_looked_through_once_a_period_only(monkeypatch):
    monkeypatch.setattr(log_limits, "MAX_SITES", 10)
    limits = LogLimits(5)
    looked = []
    for line in range(10):
        limits.admit("shop", "/srv/shop.py", line, "buy", 20, 100.0)
    make_room = LogLimits._make_room
    monkeypatch.setattr(
        LogLimits, "_make_room", lambda self, now_s: looked.append(0) or make_room(self, now_s)
    )
    monkeypatch.setattr(limits, "_sites", items := Counted(limits._sites))
    for line in range(100, 200):
        limits.admit("shop", "/srv/shop.py", line, "buy", 20, 100.5)
    assert len(looked) == 100
    assert items.passes == 1


class Counted(dict):
    passes = 0

    def items(self):
        self.passes += 1
        return super().items()


def test_what_threads_suppress_is_counted_exactly():
    limits = LogLimits(1)
    limits.admit(*HERE, 100.0)

    def flood():
        for _ in range(1_000):
            limits.admit(*HERE, 100.5)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(limits.end()) == [(7, 4_000)]


def test_a_child_process_forgets_what_its_parent_suppressed():
    limits = LogLimits(1)
    admitted(limits, 5, 100.0)
    limits.reset()
    assert limits.end() == []
    assert admitted(limits, 5, 100.0) == 1
