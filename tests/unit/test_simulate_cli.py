"""``heatshield simulate`` and ``heatshield evaluate`` from the command line."""

import json

import pytest
from typer.testing import CliRunner

from heatshield.cli import app as application
from heatshield.cli.errors import CliError
from heatshield_collector.worlds import suite
from heatshield_collector.worlds.judge import Judgement
from heatshield_collector.worlds.scenes import SCENES


def run(*arguments):
    return CliRunner().invoke(application.app, arguments)


def test_scenes_are_listed():
    listed = json.loads(run("simulate", "--list", "--json").output)["scenes"]
    assert [row["name"] for row in listed] == list(SCENES)


def test_a_scene_says_what_became_of_it():
    result = run("simulate", "forty-services", "--seconds", "3", "--json")
    said = json.loads(result.output)
    assert (said["scene"], said["seconds"], said["passed"]) == ("forty-services", 3.0, True)
    assert said["requests"] > 50


def test_a_scene_is_told_to_people_in_lines():
    lines = run("simulate", "laptop", "--seconds", "8").output.splitlines()
    assert lines[0].startswith("laptop, seed 1: ")
    assert lines[-1] == "as it should be"


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "no-such-scene"),
        ("simulate", "laptop", "--telemetry", "pigeons"),
        ("evaluate", "--only", "no-such-scene"),
    ],
)
def test_what_is_not_there_is_refused(arguments):
    assert isinstance(run(*arguments).exception, CliError | SystemExit)


@pytest.mark.parametrize(("refused", "code"), [([], 0), (["u-1"], 1)])
def test_a_missed_target_is_the_exit_code(monkeypatch, tmp_path, refused, code):
    found = [Judgement("laptop", "life", 1, refused=refused)]
    monkeypatch.setattr(suite, "run", lambda *_: found)
    page = tmp_path / "page.md"
    result = run("evaluate", "--json", "--markdown", str(page))
    assert (result.exit_code, json.loads(result.output)["passed"]) == (code, not refused)
    assert page.read_text().startswith("| figure | value | target |")
