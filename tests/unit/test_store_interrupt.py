"""Questions to the embedded store end when they are told to, and have bounds of their own."""

import threading

import pytest

from heatshield_collector.store.duckdb import database
from heatshield_collector.store.duckdb.database import Database
from heatshield_collector.store.interrupt import Interrupt, QueryEndedError, interrupted_by
from heatshield_collector.store.protocol import StoreError

WAIT_S = 20
LONG = "SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000000) b"


@pytest.fixture
def store(tmp_path):
    store = Database(tmp_path)
    yield store
    store.close()


def test_a_query_that_runs_is_ended_from_another_thread(store) -> None:
    interrupt, raised = Interrupt(), []

    def ask() -> None:
        with interrupted_by(interrupt):
            try:
                store.select(LONG)
            except QueryEndedError as error:
                raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        interrupt.end()  # until it is done, as one that is just beginning may not notice
        thread.join(0.01)
    assert len(raised) == 1


def test_no_query_begins_once_its_asker_has_left(store) -> None:
    interrupt = Interrupt()
    interrupt.end()
    with interrupted_by(interrupt), pytest.raises(QueryEndedError):
        store.select("SELECT 1")
    assert store.select("SELECT 1") == [(1,)]


def test_a_query_that_is_ended_harms_no_other(store) -> None:
    interrupt = Interrupt()
    with interrupted_by(interrupt):
        assert store.select("SELECT 1") == [(1,)]
    interrupt.end()
    with store.transaction() as writer:
        writer.execute("INSERT INTO meta VALUES ('x', 1)")
    assert store.select("SELECT value FROM meta WHERE name = 'x'") == [(1,)]


def test_the_rows_of_an_answer_are_bounded(store, monkeypatch) -> None:
    monkeypatch.setattr(database, "MAX_ROWS", 100)
    with interrupted_by(Interrupt()):
        assert len(store.select("SELECT * FROM range(100)")) == 100
        with pytest.raises(StoreError, match="more than 100 rows"):
            store.rows("SELECT * FROM range(101)", {})
    assert len(store.select("SELECT * FROM range(101)")) == 101  # the collector's own are not


def test_the_memory_of_a_question_is_bounded_and_that_of_a_commit_is_not(store) -> None:
    setting = "SELECT current_setting('operator_memory_limit')"
    assert store.select(setting) in ([(None,)], [("",)])
    with interrupted_by(Interrupt()):
        ((limit,),) = store.select(setting)
    assert "61.0 MiB" in limit or "64" in limit
