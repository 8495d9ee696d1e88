"""Commands of other packages: listed without an import, imported when called, and what is missing
is said with the line that installs it."""

import itertools
import sys
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from heatshield.cli import app as application
from heatshield.cli import plugins

GUEST = """
import typer
from typing import Annotated

def up(port: Annotated[int, typer.Option()] = 1, late: bool = False) -> None:
    "Start it."
    if late:
        raise ModuleNotFoundError("No module named 'duckdb'", name="duckdb")
    typer.echo(f"up on {port}")

app = typer.Typer()

@app.command()
def push() -> None:
    typer.echo("pushed")

@app.command()
def pull() -> None:
    typer.echo("pulled")
"""


MODULES = itertools.count()


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """``guest(name, attribute, source)`` installs that one plug-in and names its module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, attribute, source=GUEST):
        module = f"cli_guest_{next(MODULES)}"
        (tmp_path / f"{module}.py").write_text(source)
        point = EntryPoint(name, f"{module}:{attribute}", plugins.GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda **_: [point])
        return module

    return make


def run(*arguments):
    return CliRunner().invoke(application.app, arguments)


def test_help_lists_a_plugin_without_importing_it(guest):
    module = guest("up", "up")
    result = run("--help")
    assert "Start a collector on an embedded store" in result.output
    assert module not in sys.modules


def test_a_function_is_imported_and_called_with_its_options(guest):
    module = guest("up", "up")
    result = run("up", "--port", "7")
    assert result.output == "up on 7\n"
    assert module in sys.modules


def test_help_of_a_plugin_is_its_own(guest):
    guest("up", "up")
    assert "--port" in run("up", "--help").output


def test_a_typer_app_brings_its_commands(guest):
    guest("dashboards", "app")
    assert run("dashboards", "push").output == "pushed\n"
    assert run("dashboards", "pull").output == "pulled\n"


@pytest.mark.parametrize(
    ("command", "extra"), [("up", "collector"), ("dashboards", "dashboards"), ("demo", "demo")]
)
def test_a_missing_extra_is_answered_with_the_line_that_installs_it(guest, command, extra):
    guest(command, "app", "import a_library_nobody_has\n")
    result = run(command)
    assert result.exit_code == 1
    assert f"pip install 'heatshield[{extra}]'" in result.stderr
    assert "a_library_nobody_has" in result.stderr
    assert result.stdout == ""


def test_help_of_a_command_whose_extra_is_missing_says_so_and_is_no_failure(guest):
    guest("dashboards", "app", "import a_library_nobody_has\n")
    for arguments in (["dashboards", "--help"], ["dashboards", "push", "--help"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        assert "Generate, provision or push the Grafana dashboards" in result.output
        assert "heatshield[dashboards]" in result.output


def test_an_extra_that_is_missing_only_when_the_command_runs_is_answered_the_same(guest):
    guest("up", "up")
    result = run("up", "--late")
    assert result.exit_code == 1
    assert "needs duckdb: pip install 'heatshield[collector]'" in result.stderr


def test_a_missing_module_of_our_own_is_a_defect_and_not_hidden(guest):
    guest("up", "up", "import heatshield_collector.no_such_module\n")
    assert isinstance(run("up").exception, ModuleNotFoundError)


def test_a_strangers_plugin_is_listed_and_runs(guest):
    module = guest("extra-thing", "up")
    assert f"Command of {module}" in run("--help").output
    assert run("extra-thing").output == "up on 1\n"


def test_no_plugin_replaces_a_command_of_ours(guest):
    guest("mode", "up")
    assert "Show the mode of the platform" in run("mode", "--help").output


def test_every_installed_entry_point_has_a_help_text_and_an_extra():
    installed = {command.name for command in plugins.plugin_commands()}
    assert installed == set(plugins.KNOWN)
