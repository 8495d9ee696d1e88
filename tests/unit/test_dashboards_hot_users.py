"""The dashboard as code: what is committed is what it generates, over metrics that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from heatshield import names
from heatshield_dashboards.hot_users import hot_users
from heatshield_dashboards.provision import Places, as_object, escaped, files, write

COMMITTED = Path(__file__).parents[2] / "dashboards" / "grafana"
DASHBOARD = as_object(hot_users())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ANNOTATIONS = [one for one in DASHBOARD["annotations"]["list"] if one.get("expr")]
EXPRESSIONS = [
    *(target["expr"] for panel in PANELS for target in panel["targets"]),
    *(one["expr"] for one in ANNOTATIONS),
]

METRICS = {
    value
    for value in vars(names).values()
    if isinstance(value, str) and value.startswith("heatshield_")
}

HISTOGRAMS = {names.REQUEST_DURATION, names.COMMIT_SECONDS}
OF_SERVICES = {
    names.CALLS_NOT_STARTED, names.EVENT_LOOP_LAG, names.GC_PAUSE, names.INSTRUMENTATION_ERRORS,
    names.LOCAL_BREAKER_REFUSED, names.LOCAL_BREAKER_STATE, names.RETRIES, names.SERVICE_BREAKERS,
    names.SERVICE_QUEUE_RECORDS, names.SERVICE_REQUESTS, names.SERVICE_REQUESTS_IN_FLIGHT,
    names.SERVICE_REQUEST_DURATION, names.TELEMETRY_DROPPED, names.SERVICE_KILL_SWITCH,
}  # fmt: skip
"""What a service shows at its own ``/metrics``; this dashboard is about the collector's."""


@pytest.mark.parametrize("name", files(Places()))
def test_the_committed_file_is_what_the_code_generates(name):
    """Run `heatshield dashboards generate` after a change."""
    assert (COMMITTED / name).read_text(encoding="utf-8") == files(Places())[name]


def test_nothing_else_is_committed_beside_the_generated_files():
    there = {str(p.relative_to(COMMITTED)) for p in COMMITTED.rglob("*") if p.is_file()}
    assert there == set(files(Places()))


@pytest.mark.parametrize("expression", [*EXPRESSIONS, DASHBOARD["templating"]["list"][3]["query"]])
def test_every_metric_asked_for_is_a_name_of_heatshield(expression):
    asked = re.findall(r"heatshield_\w+", expression)
    assert asked
    known = METRICS | {f"{name}_bucket" for name in HISTOGRAMS}
    assert set(asked) <= known


def test_every_metric_of_the_collector_is_shown():
    """A metric that no panel asks for is either missed here or not needed there."""
    shown = {
        name.removesuffix("_bucket")
        for expression in EXPRESSIONS
        for name in re.findall(r"heatshield_\w+", expression)
    }
    assert shown == METRICS - OF_SERVICES


def test_every_variable_that_is_used_is_defined():
    defined = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS)))
    assert used <= defined | {"__rate_interval"}
    assert defined <= used


def test_every_panel_has_a_place_an_id_a_title_and_a_description():
    taken = set()
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_user_panels_are_bounded():
    """A user id is a label in a bounded top-k only, and a panel asks for no more than that."""
    about_users = [text for text in EXPRESSIONS if names.USER_LOAD in text]
    assert about_users
    assert all("topk(" in expression for expression in about_users)


def test_durations_ask_for_the_requests_behind_them():
    asked = [t["expr"] for p in PANELS for t in p["targets"] if t["exemplar"]]
    assert asked
    assert all(names.REQUEST_DURATION in expression for expression in asked)


def test_every_panel_reads_the_chosen_data_source():
    sources = [p["datasource"] for p in PANELS]
    sources += [t["datasource"] for p in PANELS for t in p["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_provisioning_escapes_what_grafana_would_replace():
    assert escaped({"a": ["$x", {"b": "${y}"}], "n": 1}) == {"a": ["$$x", {"b": "$${y}"}], "n": 1}
    text = files(Places(dashboards="/srv/$HOME"))["provisioning/dashboards/heatshield.yaml"]
    assert yaml.safe_load(text)["providers"][0]["options"]["path"] == "/srv/$$HOME"
    text = files(Places())["provisioning/datasources/heatshield.yaml"]
    source = yaml.safe_load(text)["datasources"][0]
    link = source["jsonData"]["exemplarTraceIdDestinations"][0]
    assert link["url"] == "http://127.0.0.1:4318/api/requests/$${__value.raw}"


def test_places_reach_every_file_that_names_them(tmp_path):
    written = write(
        tmp_path / "new", Places("/d", "http://prom:1", "https://collect.example:2/prefix/")
    )
    assert [path.relative_to(tmp_path / "new").as_posix() for path in written] == list(
        files(Places())
    )
    source = yaml.safe_load((tmp_path / "new/provisioning/datasources/heatshield.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://prom:1"
    scrape = yaml.safe_load((tmp_path / "new/prometheus/heatshield.yaml").read_text())
    job = scrape["scrape_configs"][0]
    assert job["scheme"] == "https"
    assert job["metrics_path"] == "/prefix/metrics"
    assert job["static_configs"] == [{"targets": ["collect.example:2"]}]


def test_another_default_prometheus_does_not_empty_the_dashboard():
    (source,) = (one for one in DASHBOARD["templating"]["list"] if one["name"] == "datasource")
    provisioned = yaml.safe_load(files(Places())["provisioning/datasources/heatshield.yaml"])
    assert source["current"]["value"] == provisioned["datasources"][0]["uid"]


def test_an_opening_names_the_user_and_the_call():
    (one,) = ANNOTATIONS
    assert one["enable"]
    assert {"user", "mode"} <= set(re.findall(r"{{(\w+)}}", one["titleFormat"]))
    assert set(re.findall(r"{{(\w+)}}", one["textFormat"])) == {"service", "call"}


@pytest.mark.parametrize(
    ("public_url", "linked"),
    [("", "http://10.0.0.1:4318"), ("https://heat.example/", "https://heat.example")],
)
def test_links_lead_where_people_reach_the_collector(public_url, linked):
    places = Places(collector="http://10.0.0.1:4318", public_url=public_url)
    source = yaml.safe_load(files(places)["provisioning/datasources/heatshield.yaml"])
    (link,) = source["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"]
    assert link["url"].startswith(f"{linked}/api/requests/")
