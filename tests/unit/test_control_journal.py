"""The journal: in order, in bounded memory, and never in the way."""

import json

import pytest

from heatshield.clock import ManualClock
from heatshield_collector.control import Journal
from heatshield_collector.control.journal import AGAIN_S
from heatshield_collector.store import DuckDBStore, StoreError

AUDIT = {
    "at_ns": 1, "change": "opened", "entry_id": "b-1", "issuer": "human:a", "reason": "r",
    "version": "1.1", "entry": {"user": "u", "evidence": {"trace_ids": ["aa"]}},
}  # fmt: skip
FINDING = {
    "id": "f-1", "class": "hot", "user": "u", "service": "shop", "call": "POST /p",
    "cost": "busy", "window": "1s", "load": 1.5, "at_ns": 2, "trace_ids": ["aa"], "reason": "r",
}  # fmt: skip


def test_rows_are_written_in_order_with_objects_as_json_when_it_stops(tmp_path):
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal.write("findings", FINDING)
    for at_ns in (1, 2, 3):
        journal.write("audit", {**AUDIT, "at_ns": at_ns})
    journal.start()
    journal.stop()
    assert [row["at_ns"] for row in store.recent("audit", 9)] == [3, 2, 1]
    assert json.loads(store.recent("audit", 1)[0]["entry"]) == AUDIT["entry"]
    (finding,) = store.recent("findings", 9)
    assert json.loads(finding["trace_ids"]) == ["aa"]
    assert finding["load"] == 1.5
    assert journal.dropped == 0
    store.close()


@pytest.mark.parametrize("wrong", [{**AUDIT, "at_ns": "yesterday"}, {**AUDIT, "change": None}])
def test_a_row_that_can_t_be_written_is_counted_and_the_next_ones_are(tmp_path, wrong):
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal._append([("audit", wrong)])
    journal._append([("audit", {**AUDIT, "entry": "{}"})])
    assert journal.dropped == 1
    assert len(store.recent("audit", 9)) == 1
    store.close()


def test_what_is_kept_for_the_next_start_is_written_and_the_newest_wins(tmp_path):
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal.keep("alert", {"a": "1", "b": "1"})
    journal.keep("alert", {"a": "2", "b": None})
    journal.start()
    journal.stop()
    assert store.kept("alert") == {"a": "2"}
    store.close()


def test_a_store_that_fails_costs_rows_and_not_the_thread():
    class Failing:
        def record(self, _journals):
            raise StoreError("x")

    journal = Journal(Failing(), ManualClock())
    journal.start()
    journal.write("audit", AUDIT)
    journal.stop()
    assert journal.dropped == 1


def test_a_full_queue_holds_up_no_writer(monkeypatch):
    monkeypatch.setattr("heatshield_collector.control.journal.ROWS_MOST", 2)
    journal = Journal(None, ManualClock())
    for _ in range(5):
        journal.write("audit", AUDIT)
    assert journal.dropped == 3


class Full:
    """A store whose disk is full for the first tries."""

    def __init__(self, store, tries):
        self.store, self.left, self.tries = store, tries, 0

    def keep(self, kind, changed):
        self.tries += 1
        if self.tries <= self.left:
            raise StoreError("full")
        self.store.keep(kind, changed)


def test_what_is_kept_is_written_again_where_the_store_failed_unless_it_has_changed(tmp_path):
    store = DuckDBStore(tmp_path)
    journal = Journal(Full(store, 1), ManualClock())
    journal.keep("alert", {"a": "1", "b": "1"})
    journal._keep(*journal._take()[1].popitem())
    journal.keep("alert", {"b": None})
    journal._keep(*journal._take()[1].popitem())
    assert store.kept("alert") == {"a": "1"}
    store.close()


def test_what_failed_is_written_when_there_is_room_again_though_nothing_changes(tmp_path):
    store, clock = DuckDBStore(tmp_path), ManualClock()
    journal = Journal(Full(store, 2), clock)
    journal.keep("alert", {"a": "1"})
    journal.start()
    for _ in range(10_000):
        clock.advance(AGAIN_S)
        if store.kept("alert"):
            break
    assert store.kept("alert") == {"a": "1"}
    journal.stop()
    store.close()


def test_what_failed_is_tried_once_more_at_the_end(tmp_path):
    """Else the next start would go on with what has ended."""
    store = DuckDBStore(tmp_path)
    journal = Journal(Full(store, 1), ManualClock())
    journal.keep("alert", {"a": "1"})
    journal.start()
    journal.stop()
    assert store.kept("alert") == {"a": "1"}
    store.close()


def test_a_disk_that_stays_full_does_not_keep_it_from_ending(tmp_path):
    store = DuckDBStore(tmp_path)
    full = Full(store, 1_000)
    journal = Journal(full, ManualClock())
    journal.keep("alert", {"a": "1"})
    journal.start()
    journal.stop()
    assert full.tries == 2
    store.close()
