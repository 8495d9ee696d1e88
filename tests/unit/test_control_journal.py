"""The journal: in order, in bounded memory, and never in the way."""

import json
from dataclasses import asdict

import pytest

from heatshield.clock import ManualClock
from heatshield.contract import BreakerEntry
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
    journal._append([("audit", wrong)], {})
    journal._append([("audit", {**AUDIT, "entry": "{}"})], {})
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
        def record(self, _journals, _held):
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


def entry(user, at_ns, change="opened"):
    """An audit record of a user's breaker."""
    said = asdict(BreakerEntry(f"b-{user}", user, "shop", "POST /p", issuer="rule:HotUser"))
    return {**AUDIT, "at_ns": at_ns, "change": change, "entry": said}


def users_held(store):
    return [json.loads(one.entry)["user"] for one in store.held()]


def test_what_is_held_is_kept_even_where_its_record_finds_no_room(tmp_path, monkeypatch):
    """A flood of refusals fills the queue; a restart must hold on what was granted meanwhile."""
    monkeypatch.setattr("heatshield_collector.control.journal.ROWS_MOST", 2)
    store = DuckDBStore(tmp_path)
    journal = Journal(store, ManualClock())
    journal.write("audit", entry("first", 1))
    journal.write("audit", entry("first", 2, "refused"))
    journal.write("audit", entry("late", 3))
    journal.write("audit", entry("first", 4, "cleared"))
    journal.start()
    journal.stop()
    assert journal.dropped == 2
    assert users_held(store) == ["late"]
    store.close()


def test_what_is_held_is_written_again_where_the_store_failed(tmp_path):
    store = DuckDBStore(tmp_path)

    class FailingOnce:
        failed = False

        def record(self, journals, held):
            if not self.failed:
                self.failed = True
                raise StoreError("x")
            store.record(journals, held)

    journal = Journal(FailingOnce(), ManualClock())
    for record in (entry("u-1", 1), entry("u-2", 2)):
        journal.write("audit", record)
    journal._append(*journal._take()[:2])
    journal.write("audit", entry("u-2", 3, "closed"))
    journal._append(*journal._take()[:2])
    assert users_held(store) == ["u-1"]
    assert [row["at_ns"] for row in store.recent("audit", 9)] == [3]
    store.close()


class Full:
    """A store whose disk is full for the first tries."""

    def __init__(self, store, tries):
        self.store, self.left, self.tries = store, tries, 0

    def record(self, journals, held):
        self.tries += 1
        if self.tries <= self.left:
            raise StoreError("full")
        self.store.record(journals, held)


def test_what_failed_is_written_when_there_is_room_again_though_nothing_changes(tmp_path):
    store, clock = DuckDBStore(tmp_path), ManualClock()
    journal = Journal(Full(store, 2), clock)
    journal.write("audit", entry("u-1", 1))
    journal.start()
    for _ in range(10_000):
        clock.advance(AGAIN_S)
        if users_held(store):
            break
    assert users_held(store) == ["u-1"]
    journal.stop()
    store.close()


def test_what_failed_is_tried_once_more_at_the_end(tmp_path):
    """Else the next start would hold on what has ended."""
    store = DuckDBStore(tmp_path)
    journal = Journal(Full(store, 1), ManualClock())
    journal.write("audit", entry("u-1", 1))
    journal.start()
    journal.stop()
    assert users_held(store) == ["u-1"]
    store.close()


def test_a_disk_that_stays_full_does_not_keep_it_from_ending(tmp_path):
    store = DuckDBStore(tmp_path)
    full = Full(store, 1_000)
    journal = Journal(full, ManualClock())
    journal.write("audit", entry("u-1", 1))
    journal.start()
    journal.stop()
    assert full.tries == 2
    store.close()
