"""Reports and renewals, which every client sends: by the quick route and by the documented one."""

import json
from dataclasses import replace

import pytest
from starlette.routing import Match

from heatshield.contract import Report
from heatshield.names import BREAKER_REPORT_PATH
from heatshield_collector.api.frequent import ReportRoute
from heatshield_collector.authenticator import AdminTokenAuthenticator

REPORT = {"service": "shop", "instance": "i", "workers": 2, "applied": "3.17", "rejected": []}


@pytest.mark.parametrize("offered", [[], [{"budget": "b-1", "per_s": 1.0}]])
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_reports_are_handed_on_and_answered_with_the_version(face, offered, kind):
    """By either route: with parameters of its type it is another than what clients send."""
    report = REPORT | {"offered": offered}
    answer = face.call(
        "POST",
        "/v1/breakers/report",
        content=json.dumps(report),
        headers={"Content-Type": kind},
    )
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "at": "3.17",
        "shares": {"b-1": 0.5} if offered else {},
        "spread_ms": 0,
    }
    assert face.breakers.reports == [Report.from_json(report)]


def test_a_report_of_any_length_is_taken_up_to_the_limit(face):
    row = {"id": "b-1", "count": 1, "user": "u" * 200, "service": "shop", "call": "POST /p"}
    for count in (1, 1_000):
        report = REPORT | {"rejected": [row | {"id": f"b-{n}"} for n in range(count)]}
        assert face.call("POST", "/v1/breakers/report", json=report).status_code == 200
        assert len(face.breakers.reports[-1].rejected) == count


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"service": "shop"}'])
def test_what_is_no_report_is_refused_in_words_and_changes_nothing(face, body):
    answer = face.call(
        "POST",
        "/v1/breakers/report",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert face.breakers.reports == []


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_a_report_that_a_form_could_send_is_refused(face, kind):
    content = json.dumps(REPORT)
    answer = face.call(
        "POST", "/v1/breakers/report", content=content, headers={"Content-Type": kind}
    )
    assert answer.status_code == 422
    assert face.breakers.reports == []


def test_who_has_no_token_neither_reports_nor_renews(face):
    closed = replace(
        face,
        ports=replace(face.ports, authenticator=AdminTokenAuthenticator("a", token="t")),  # noqa: S106
    )
    asked = {"If-None-Match": '"3.17"'}
    assert closed.get("/v1/breakers", headers=asked).status_code == 401
    assert closed.call("POST", "/v1/breakers/report", json=REPORT).status_code == 401
    assert face.breakers.reports == []
    assert face.get("/v1/breakers", headers=asked).status_code == 304


@pytest.mark.parametrize("path", ["/v1/breakers", "/v1/breakers?service=shop&instance=i"])
def test_a_renewal_that_finds_nothing_new_has_the_same_headers_by_either_route(face, path):
    answer = face.get(path, headers={"If-None-Match": '"3.17"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert (answer.headers["etag"], answer.headers["cache-control"]) == ('"3.17"', "no-cache")


def test_a_length_that_begins_with_zeros_is_bound_as_any_other():
    route = ReportRoute(None, None)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"0" * 9 + b"9" * 8)]
    connection = {
        "type": "http", "method": "POST", "path": BREAKER_REPORT_PATH, "headers": headers,
    }  # fmt: skip
    assert route.matches(connection) == (Match.NONE, {})
