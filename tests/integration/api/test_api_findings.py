"""``/api/findings``: what is open as it is now, what is closed as it ended, and what was asked."""

import json
from dataclasses import replace

import pytest
from heat_harms import VICTIMS

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.control.finding_book import FindingBook
from heatshield_collector.detect import Finding
from heatshield_collector.store import FindingQuery

S = 10**9
TRACE = "ab" * 16


def at(seconds):
    return Instant(float(seconds), seconds * S)


def harmful(user="u-1", service="shop"):
    key = CallKey(DEFAULT_TENANT, user, service, "POST /p")
    return Finding(
        "harmful", key, "busy", "1s", 0.9, 0.01, "because", [TRACE], "pace", "Redis cart",
        {"busy_low": 0.83}, {"share": 0.3}, VICTIMS,
    )  # fmt: skip


def row(said):
    """A row of the journal, as the store gives it back."""
    return {
        name: json.dumps(value) if isinstance(value, dict | list) else value
        for name, value in said.items()
    }


@pytest.fixture
def book():
    return FindingBook(1)


@pytest.fixture
def asked(face, book):
    """Ask for findings of a book whose closed ones are in the store."""

    def ask(query=""):
        ports = replace(
            face.ports, findings=lambda: [one.to_json(one.updated_ns) for one in book.open]
        )
        answer = replace(face, ports=ports).get(f"/api/findings{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()["findings"]

    return ask


def test_an_open_finding_is_shown_as_it_is_now_with_its_victims(asked, book):
    book.take([harmful()], at(1))
    book.take([replace(harmful(), load=0.5)], at(2))
    (found,) = asked()
    assert (found["id"], found["class"], found["action"], found["open"]) == (
        "f-1-1", "harmful", "pace", True,
    )  # fmt: skip
    assert (found["user"], found["service"], found["call"]) == ("u-1", "shop", "POST /p")
    assert (found["opened_ns"], found["updated_ns"], found["closed_ns"]) == (1 * S, 2 * S, None)
    assert (found["load"], found["worst"]["load"], found["worst"]["at_ns"]) == (0.5, 0.9, 1 * S)
    assert (found["trace_ids"], found["resource"]) == ([TRACE], "Redis cart")
    assert (found["figures"], found["thresholds"]) == ({"busy_low": 0.83}, {"share": 0.3})
    assert found["victims"]["worst_users"] == ["v-1", "v-2"]
    assert (found["victims"]["harmed"], found["victims"]["p95_ms"]) == (128, 410.0)
    assert found["worst"]["victims"] == found["victims"]


def test_closed_findings_come_from_the_store_but_for_what_is_open(asked, book, face):
    ((_, opened),) = book.take([harmful()], at(1))
    face.store.rows["findings"] = [row(opened.to_json(1) | {"id": "f-0-9", "closed_ns": 7})]
    book.take([harmful(), harmful("u-2")], at(2))
    assert [(one["id"], one["open"]) for one in asked()] == [
        ("f-1-2", True), ("f-1-1", True), ("f-0-9", False),
    ]  # fmt: skip
    assert sorted(face.store.query.leave_out) == ["f-1-1", "f-1-2"]
    assert [one["id"] for one in asked("?open=true&limit=1")] == ["f-1-2"]
    (closed,) = asked("?open=false")
    assert (closed["id"], closed["closed_ns"], closed["victims"]["users"]) == ("f-0-9", 7, 41)


def test_findings_are_asked_for_by_class_user_and_service(asked, book, face):
    book.take([harmful(), harmful("u-2"), harmful(service="talk")], at(1))
    assert [one["id"] for one in asked("?user=u-1&service=talk&class=harmful")] == ["f-1-3"]
    leave_out = ["f-1-1", "f-1-2", "f-1-3"]
    assert face.store.query == FindingQuery("harmful", "u-1", "talk", leave_out, 50)
    assert asked("?class=hot") == []
    assert face.get("/api/findings?class=lukewarm").status_code == 422


def test_what_an_older_version_wrote_is_read(asked, face):
    old = dict.fromkeys(
        ("action", "resource", "baseline", "figures", "thresholds", "victims", "worst",
         "opened_ns", "updated_ns", "closed_ns")
    )  # fmt: skip
    face.store.rows["findings"] = [
        {
            "id": "f-1", "class": "hot", "user": "u-1", "service": "shop", "call": "POST /p",
            "cost": "busy", "window": "1s", "load": 1.5, "at_ns": 5, "trace_ids": f'["{TRACE}"]',
            "reason": "because", **old,
        }
    ]  # fmt: skip
    (found,) = asked()
    assert (found["action"], found["opened_ns"], found["updated_ns"]) == ("none", 5, 5)
    assert (found["trace_ids"], found["victims"], found["worst"]) == ([TRACE], None, None)
