"""What the store keeps when the wall clock jumps: all of it, until the time can be believed."""

import pytest
from span_rows import START_NS, span, table
from store_rows import S, audit, bulk_logs, parts_of, put

from heatshield.call_key import CallKey
from heatshield.clock import ManualClock
from heatshield_collector.link import Linker
from heatshield_collector.store import DuckDBStore, Limits
from heatshield_collector.store.believed_time import SETTLE_S

FOUR_DAYS_S = 4 * 86_400
KEY = CallKey("default", "u", "shop", "POST /p")


@pytest.fixture
def clock():
    return ManualClock(epoch_ns=START_NS)


@pytest.fixture
def store(tmp_path, clock):
    opened = DuckDBStore(tmp_path)
    put(opened, [span(1)], clock.time_ns())
    opened.append({"audit": audit(clock.time_ns())})
    with opened._database.transaction() as writer:  # as an older version left it
        writer.execute("INSERT INTO held_entries VALUES (?, '{}', ?)", [KEY.text, clock.time_ns()])
    opened.close()
    opened = DuckDBStore(tmp_path)  # as a collector finds it that was started again
    yield opened
    opened.close()


def rounds(store, clock, minutes):
    """Rows that retention let go of, one round a minute."""
    gone = 0
    for _ in range(minutes):
        clock.advance(60)
        gone += store.expire(clock.now())
    return gone


def test_a_minute_with_the_clock_days_ahead_deletes_nothing(store, clock):
    rounds(store, clock, 1)
    clock.step_wall_clock(FOUR_DAYS_S)
    put(store, [span(2, trace=2)], clock.time_ns())
    assert rounds(store, clock, 1) == 0
    clock.step_wall_clock(-FOUR_DAYS_S)
    assert rounds(store, clock, 40) == 0
    sizes = store.sizes()
    assert (sizes["spans"], sizes["request_parts"], sizes["audit"]) == (2, 2, 1)
    assert store.held()


def test_a_start_with_the_clock_days_ahead_of_the_newest_row_deletes_nothing(store, clock):
    clock.step_wall_clock(FOUR_DAYS_S)
    assert rounds(store, clock, 20) == 0
    assert store.sizes()["spans"] == 1


def test_what_a_start_writes_by_a_wrong_clock_does_not_vouch_for_it(store, clock):
    """A collector's own spans are stored long before retention looks for the first time."""
    clock.step_wall_clock(FOUR_DAYS_S)
    put(store, [span(2, trace=2)], clock.time_ns())
    assert rounds(store, clock, 20) == 0
    assert store.sizes()["spans"] == 2


def test_a_time_that_goes_on_evenly_is_believed_after_all(store, clock):
    """A collector that was down for days, or a machine that slept."""
    clock.step_wall_clock(FOUR_DAYS_S)
    assert rounds(store, clock, round(SETTLE_S / 60) + 2) == 2
    assert store.sizes()["spans"] == 0
    assert store.held() == []


def test_rows_stamped_ahead_do_not_make_a_full_store_give_up_all_others(tmp_path, clock):
    """The span of time that it gives up a tenth of would end days from now."""
    store = DuckDBStore(tmp_path, Limits(size_bytes=9 * 2**20))
    store.append({"logs": bulk_logs(0, 400_000)})
    put(store, [span(1)], START_NS + FOUR_DAYS_S * S)
    store.expire(clock.now())
    ((kept,),) = store._database.select("SELECT count(*) FROM logs")
    assert kept > 100_000
    store.close()


def test_parts_are_folded_again_as_soon_as_the_clock_is_back(store, clock):
    linker = Linker()
    clock.step_wall_clock(FOUR_DAYS_S)
    rounds(store, clock, 1)
    clock.step_wall_clock(-FOUR_DAYS_S)
    for number in (1, 2):
        put(store, [span(number, trace=3)], clock.time_ns() + number, linker)
    rounds(store, clock, 2)
    assert (3, 2) in parts_of(store)


def test_a_clock_that_goes_back_holds_up_nothing_that_waits_for_its_user(clock):
    """Whatever linking remembers ages by the monotonic clock."""
    linker = Linker()
    linker.link(table([span(1, user=None)]), clock.now())
    clock.advance(3)
    clock.step_wall_clock(-FOUR_DAYS_S)
    assert linker.overdue(clock.now()).charges.num_rows == 1
