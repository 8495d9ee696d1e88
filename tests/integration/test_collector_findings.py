"""Findings and what is usual over a restart of a real collector."""

import stat
import time

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from collector_process import collector_process
from heatshield import names
from heatshield_collector.control.baseline_keeper import BASELINES_FILE

MS = 10**6


def burn(url, user, calls=12, took_ms=200):
    """A user keeps the shop busy for a moment."""
    resource = Resource.create({"service.name": "shop", "service.instance.id": "i-1"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    for _ in range(calls):
        end_ns = time.time_ns()
        span = provider.get_tracer("shop").start_span(
            "POST /p", kind=SpanKind.SERVER, start_time=end_ns - took_ms * MS,
            attributes={names.ENDUSER_ID: user},
        )  # fmt: skip
        span.end(end_ns)
    provider.shutdown()


def findings(url, **query):
    answer = httpx.get(f"{url}/api/findings", params=query, timeout=20)
    answer.raise_for_status()
    return answer.json()["findings"]


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    """(findings that were open, URL of the next collector, its data folder)."""
    folder = tmp_path_factory.mktemp("findings") / "data"
    with collector_process(folder, "--cold-start-s", "0") as first:
        burn(first.url, "u-burns")
        deadline_s = time.monotonic() + 10
        while not (opened := findings(first.url, open="true", **{"class": "hot"})):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        first.process.terminate()
        first.process.wait(30)
    with collector_process(folder, "--cold-start-s", "0") as second:
        yield opened, second.url, folder


def test_a_finding_that_was_open_is_closed_when_the_collector_stops(restarted):
    (opened,), url, _ = restarted
    assert (opened["user"], opened["open"], opened["closed_ns"]) == ("u-burns", True, None)
    (closed,) = findings(url, user="u-burns", **{"class": "hot"})
    assert (closed["id"], closed["opened_ns"]) == (opened["id"], opened["opened_ns"])
    assert closed["closed_ns"] >= closed["updated_ns"] >= closed["opened_ns"]
    assert not closed["open"]
    assert set(closed["trace_ids"]) >= set(opened["trace_ids"][:1])


def test_findings_are_asked_for_by_what_they_are_about(restarted):
    _, url, _ = restarted
    assert findings(url, open="true") == []
    assert findings(url, user="u-else") == findings(url, service="talk") == []
    assert {one["user"] for one in findings(url, service="shop", open="false")} == {"u-burns"}


def test_what_is_usual_is_in_a_file_that_its_user_alone_may_read(restarted):
    _, _, folder = restarted
    assert stat.S_IMODE((folder / BASELINES_FILE).stat().st_mode) == 0o600


def test_a_finding_that_was_open_when_the_collector_was_killed_is_open_no_longer(tmp_path):
    with collector_process(tmp_path / "data") as killed:
        burn(killed.url, "u-burns")
        deadline_s = time.monotonic() + 10
        while not (opened := findings(killed.url, open="true", **{"class": "hot"})):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        time.sleep(1.0)  # the journal writes it meanwhile; open ones are told from memory
    with collector_process(tmp_path / "data") as again:
        found = [one for one in findings(again.url) if one["class"] == "hot"]
        assert [(one["id"], one["open"], one["closed_ns"]) for one in found] == [
            (opened[0]["id"], False, None)
        ]
