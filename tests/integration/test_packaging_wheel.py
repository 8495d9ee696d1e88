"""The wheel, as somebody installs it: complete, and working with the sources out of reach."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    "heatshield": "instrumentation",
    "heatshield_alerts": "alerts",
    "heatshield_collector": "collector",
    "heatshield_dashboards": "dashboards",
    "heatshield_stickershop": "examples",
}

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys
places = {}
for package in sys.argv[1:]:
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        places[found.name] = importlib.import_module(found.name).__file__
print(json.dumps(places))
"""

STATUS = """
import json, heatshield
print(json.dumps({**heatshield.status(), "file": heatshield.__file__}))
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as a release is: a source distribution first, the wheel from that."""
    folder = tmp_path_factory.mktemp("dist")
    build = ("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    run(sys.executable, *build)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the wheel's content and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--target", str(folder))
    run(sys.executable, "-m", "pip", *install, str(wheel))
    return folder


@pytest.fixture(scope="module")
def python(installed, tmp_path_factory):
    """``python(*arguments)`` with the wheel and third parties, but without the editable install.

    ``-S`` leaves out ``.pth`` files, and so the path to the sources.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {name: text for name, text in os.environ.items() if "HEATSHIELD" not in name}
    path = os.pathsep.join([str(installed), sysconfig.get_path("platlib")])

    def start(*arguments):
        command = (sys.executable, "-S", *arguments)
        return run(*command, cwd=elsewhere, env={**environment, "PYTHONPATH": path})

    return start


def test_it_holds_every_file_of_every_package_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        str(file.relative_to(ROOT / folder))
        for package, folder in PACKAGES.items()
        for file in (ROOT / folder / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert held == wanted
    data = {f"{package}/py.typed" for package in PACKAGES}
    data |= {
        "heatshield_alerts/rules/heatshield.yaml",
        "heatshield/autostart/path/sitecustomize.py",
    }
    assert data <= held


def test_a_plain_install_asks_for_what_instrumentation_needs_alone(wheel):
    metadata = metadata_of(wheel)
    rows = metadata.get_all("Requires-Dist")
    assert {row for row in rows if "extra ==" not in row} == set(PROJECT["dependencies"])
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


def test_its_licence_is_the_whole_of_apache_2(wheel):
    metadata = metadata_of(wheel)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    (name,) = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("licenses/LICENSE")]
    text = zipfile.ZipFile(wheel).read(name).decode()
    assert text == (ROOT / "LICENSE").read_text(encoding="utf-8")
    sections = [line for line in text.splitlines() if line.startswith("   ") and line[3:4] == "9"]
    assert sections == ["   9. Accepting Warranty or Additional Liability. While redistributing"]
    assert "END OF TERMS AND CONDITIONS" in text


def metadata_of(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
    return Parser().parsestr(archive.read(name).decode())


def test_every_module_imports_from_the_wheel(python, installed):
    places = json.loads(python("-c", IMPORT_EVERYTHING, *PACKAGES))
    assert len(places) > 150
    strays = {name: file for name, file in places.items() if not file.startswith(str(installed))}
    assert strays == {}


def test_the_command_line_works_from_the_wheel(python):
    command = ("-c", "from heatshield.cli import main; main()")
    assert python(*command, "--version") == f"heatshield {PROJECT['version']}\n"
    for name in PROJECT["entry-points"]["heatshield.commands"]:
        assert name in python(*command, name, "--help")


def test_the_shipped_rules_load_from_the_wheel(python):
    code = "from heatshield_alerts import *; print([g.name for g in load_file(SHIPPED_RULES)])"
    assert python("-c", code) == "['heatshield', 'heatshield-itself']\n"


def test_a_process_is_instrumented_without_code_from_the_wheel(installed, tmp_path):
    """``heatshield run`` reaches the child through sitecustomize, which ``-S`` would leave out."""
    script = installed / "bin" / "heatshield"
    assert script.is_file()
    said = run(
        *(sys.executable, str(script), "run", "--service", "shop", "--"),
        *(sys.executable, "-c", STATUS),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    status = json.loads(said)
    assert (status["instrumented"], status["service"]) == (True, "shop")
    assert status["file"].startswith(str(installed))
