"""What every control store fulfils, whatever it is made of.

A test class derives from the suite and has a fixture ``store`` that yields an empty store.
"""

import json

import pyarrow as pa
import pytest
from span_rows import span, table
from store_rows import HARD_TEXT, at_once, audit, finding

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield_collector.store import Baseline, FindingQuery, KeptMode, StoreError


class ControlStoreSuite:
    """``heatshield_collector.store.ControlStore``."""

    @staticmethod
    def key(user):
        return CallKey(DEFAULT_TENANT, user, "shop", "POST /p")

    def test_an_empty_store_holds_nothing(self, store):
        assert store.baselines() == []
        assert store.recent("audit", 10) == []

    def test_journals_are_read_newest_first_and_nothing_else_is_one(self, store):
        for at in (2, 3, 1):
            store.record({"audit": audit(at, f"b-{at}")})
        assert [row["entry_id"] for row in store.recent("audit", 2)] == ["b-3", "b-2"]
        with pytest.raises(StoreError, match="not a journal"):
            store.recent("spans", 5)

    def test_of_records_of_one_moment_the_last_written_is_the_newest(self, store):
        for name in ("b-1", "b-2"):
            store.record({"audit": audit(5, name)})
        assert [row["entry_id"] for row in store.recent("audit", 2)] == ["b-2", "b-1"]

    def test_a_table_that_is_no_journal_is_refused_with_all_that_came_along(self, store):
        with pytest.raises(StoreError):
            store.record({"audit": audit(1), "spans": table([span(1)])})
        assert store.recent("audit", 1) == []

    def test_of_a_finding_the_last_row_of_its_life_is_listed_newest_finding_first(self, store):
        store.record({"findings": finding(1, "f-1-1")})
        store.record({"findings": finding(2, "f-1-2", user=None, **{"class": "overload"})})
        # The wall clock was set back meanwhile.
        store.record({"findings": finding(0, "f-1-1", opened_ns=1, **{"class": "harmful"})})
        found = store.findings(FindingQuery())
        assert [(row["id"], row["class"]) for row in found] == [
            ("f-1-2", "overload"), ("f-1-1", "harmful"),
        ]  # fmt: skip
        assert [row["at_ns"] for row in found] == [2, 0]

    def test_findings_are_found_by_class_user_and_service_and_some_are_left_out(self, store):
        for number, (user, service) in enumerate((("a", "x"), ("b", "x"), ("a", HARD_TEXT))):
            store.record({"findings": finding(number, f"f-{number}", user=user, service=service)})
        store.record({"findings": finding(9, "f-0", opened_ns=0, user="a", service="x")})

        def ids(**query):
            return [row["id"] for row in store.findings(FindingQuery(**query))]

        assert ids(user="a") == ["f-2", "f-0"]
        assert ids(service=HARD_TEXT) == ["f-2"]
        assert ids(klass="heavy") == []
        assert ids(klass="hot", limit=2) == ["f-2", "f-1"]
        assert ids(leave_out=["f-2", "f-7"]) == ["f-1", "f-0"]

    def test_a_finding_of_an_older_version_was_opened_when_it_was_told(self, store):
        store.record({"findings": finding(5, "f-old", opened_ns=None)})
        store.record({"findings": finding(4, "f-new")})
        assert [row["id"] for row in store.findings(FindingQuery())] == ["f-old", "f-new"]

    def test_the_mode_that_was_kept_last_is_kept(self, store):
        assert store.kept_mode() is None
        for number, mode in enumerate(("protect", "shadow")):
            kept = KeptMode(mode, "protect", number, HARD_TEXT)
            store.keep_mode(kept)
            assert store.kept_mode() == kept

    def test_what_was_kept_is_there_until_it_is_taken_away(self, store):
        assert store.kept("alert") == {}
        store.keep("alert", {"b": "1", "a": HARD_TEXT, "c": "3"})
        store.keep("sent", {"a": "other"})
        store.keep("alert", {"b": "2", "c": None, "never": None})
        store.keep("alert", {})
        assert list(store.kept("alert").items()) == [("a", HARD_TEXT), ("b", "2")]
        assert store.kept("sent") == {"a": "other"}

    def test_every_epoch_is_greater_than_all_before(self, store):
        given = [store.next_epoch(at_least) for at_least in (1, 1, 1_000, 5)]
        assert given == sorted(set(given))
        assert given[2] == 1_000

    def test_threads_are_given_different_epochs(self, store):
        given = at_once(lambda _: [store.next_epoch(1) for _ in range(5)])
        assert len({epoch for some in given for epoch in some}) == 20

    def test_threads_record_at_once_and_nothing_is_lost(self, store):
        def work(number):
            for turn in range(5):
                store.record({"audit": audit(turn, f"u-{number}-{turn}")})

        at_once(work)
        assert len({row["entry_id"] for row in store.recent("audit", 100)}) == 20

    def test_a_baseline_replaces_what_its_key_had(self, store):
        named, nameless = self.key("unknown"), CallKey(DEFAULT_TENANT, None, "shop", "POST /p")
        store.keep_baselines([Baseline(named, 0.5, 1), Baseline(nameless, 2.0, 1)])
        store.keep_baselines([Baseline(named, 0.75, 2)])
        store.keep_baselines([])
        assert store.baselines() == [Baseline(nameless, 2.0, 1), Baseline(named, 0.75, 2)]

    def test_a_journal_s_texts_come_back_as_they_were(self, store):
        row = audit(1).to_pylist()[0] | {"reason": HARD_TEXT, "entry": json.dumps({"a": "é"})}
        store.record({"audit": pa.Table.from_pylist([row], schema=audit(1).schema)})
        assert store.recent("audit", 1) == [row]
