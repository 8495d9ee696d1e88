"""A plain ``pip install heatshield``: what an extra brings is absent, and nothing misses it."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from heatshield.integrations.catalogue import CATALOGUE

PLAIN_ONLY = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None  # Python's way of saying: not to be found
"""

COMMAND_LINE = PLAIN_ONLY + "from heatshield.cli import main; main()"

INSTRUMENT = """
import heatshield
heatshield.instrument(service="shop")
heatshield.user("u-1")
heatshield.cost(elements=1)
with heatshield.guard("call"):
    pass
states = heatshield.status()["integrations"]
print(*(f"{name}={state}" for name, state in sorted(states.items())))
heatshield.shutdown()
"""


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name, seen, extras=("",)):
    """A distribution with all that its plain install, or that of extras, brings."""
    if normal(name) in seen:
        return seen
    seen.add(normal(name))
    for row in distribution(name).requires or ():
        wanted = Requirement(row)
        if wanted.marker is None or any(
            wanted.marker.evaluate({"extra": extra}) for extra in extras
        ):
            closure(wanted.name, seen)
    return seen


def modules(one):
    """The module names that a distribution brings, down to the second level."""
    for file in one.files or ():
        if file.suffix in {".py", ".so"} and file.parts[0] != "..":
            parts = (*file.parts[:-1], file.name.partition(".")[0])
            yield from (parts[0], ".".join(parts[:2]))


def absent_with(*extras):
    """Modules of this environment that an install with these extras would not have.

    Comma-separated; of a namespace package (google, opentelemetry) only the parts.
    """
    plain = closure("heatshield", set(), ("", *extras))
    theirs, others = set(), set()
    for one in distributions():
        found = theirs if normal(one.metadata["Name"]) in plain else others
        found.update(modules(one))
    names = {name for name in others - theirs if name.replace(".", "").isidentifier()}
    assert {"duckdb", "fastapi", "pyarrow", "uvicorn", "grpc", "structlog", "yaml"} <= names
    return ",".join(sorted(names - {"heatshield"}))


@pytest.fixture(scope="module")
def absent():
    """Of a plain install, in a service."""
    return absent_with()


@pytest.fixture(scope="module")
def absent_to_people():
    """Of an install with the command line."""
    return absent_with("cli")


def test_a_service_gets_what_runs_in_it_and_nothing_else():
    """Pydantic 2 above all is not to be had beside an application with pydantic 1."""
    brought = closure("heatshield", set()) - {"heatshield"}
    assert not brought & {"pydantic", "typer", "rich", "opentelemetry-instrumentation"}, brought
    assert {"opentelemetry-api", "opentelemetry-sdk", "prometheus-client", "wrapt"} <= brought


def run(absent, code, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", code, absent, *arguments],
        cwd=cwd,
        env={name: text for name, text in os.environ.items() if "HEATSHIELD" not in name},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_service_is_instrumented(absent, tmp_path):
    done = run(absent, PLAIN_ONLY + INSTRUMENT, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("telemetry does not reach the heatshield collector")
    assert len(done.stderr.splitlines()) == 1
    states = dict(line.split("=") for line in done.stdout.split())
    theirs = {one.name for one in CATALOGUE if one.distribution is not None}
    assert {states.pop(name) for name in theirs} == {"absent"}
    assert states.pop("logging") == "active"
    assert set(states.values()) <= {"active", "ready"}, "what is Python's own is there"


def test_a_library_that_is_too_old_is_called_failed_and_works_as_before(absent, tmp_path):
    """It is there and can't be patched: it must not look as if it only was not imported yet."""
    (tmp_path / "psycopg").mkdir()
    (tmp_path / "psycopg" / "__init__.py").write_text("version = '2'\n")
    absent = ",".join(name for name in absent.split(",") if name.partition(".")[0] != "psycopg")
    code = """
import heatshield
heatshield.instrument(service="shop")
import psycopg
print(psycopg.version, heatshield.status()["integrations"]["psycopg"])
heatshield.shutdown()
"""
    done = run(absent, PLAIN_ONLY + code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 failed: ")
    assert "psycopg._cursor_base" in done.stdout
    assert "heatshield could not install psycopg" in done.stderr


def test_a_service_is_run_without_the_command_line_s_extra(absent, tmp_path):
    code = "import sys; print('heatshield.service_runtime' in sys.modules)"
    command = ("--service", "shop", "--", sys.executable, "-c", code)
    done = run(absent, COMMAND_LINE, "run", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_any_other_command_says_which_extra_it_needs(absent, tmp_path):
    for command in (["hot"], ["--help"], ["run", "--help"], ["run", "--"]):
        done = run(absent, COMMAND_LINE, *command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install 'heatshield[cli]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_help_lists_every_command(absent_to_people, tmp_path):
    done = run(absent_to_people, COMMAND_LINE, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("up", "run", "demo", "dashboards", "hot", "doctor"):
        assert re.search(rf"\b{name}\b", done.stdout)


@pytest.mark.parametrize(("command", "extra"), [("up", "collector"), ("demo", "demo")])
def test_a_command_of_an_extra_says_what_installs_it(absent_to_people, tmp_path, command, extra):
    done = run(absent_to_people, COMMAND_LINE, command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    line = rf"heatshield: `heatshield {command}` needs \w+: pip install 'heatshield\[{extra}\]'\n"
    assert re.fullmatch(line, done.stderr)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize("command", ["up", "demo", "dashboards"])
def test_help_of_a_command_of_an_extra_works_without_it(absent_to_people, tmp_path, command):
    done = run(absent_to_people, COMMAND_LINE, command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{command} [OPTIONS]" in done.stdout


@pytest.mark.parametrize("command", [["provision", "d"], ["push", "--url", "u", "--token", "t"]])
def test_a_command_s_own_commands_say_what_installs_it(absent_to_people, tmp_path, command):
    done = run(absent_to_people, COMMAND_LINE, "dashboards", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'heatshield[dashboards]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_commands_that_need_no_extra_work(absent_to_people, tmp_path):
    """Without a collector they say so, and how to start one."""
    command = ("hot", "--endpoint", "http://127.0.0.1:9")
    done = run(absent_to_people, COMMAND_LINE, *command, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("heatshield: no collector answers at http://127.0.0.1:9")
