"""docs/reference.md is what the code says, and says all of it."""

import ast
import dataclasses
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import generate
import heatshield
import heatshield_collector
import inventory
from heatshield import names
from heatshield_alerts import trip_policy
from heatshield_collector.events import EVENTS
from heatshield_collector.intake.grpc import GRPC_SERVICES

COMMITTED = generate.REFERENCE.read_text(encoding="utf-8")
COLLECTOR = Path(heatshield_collector.__file__).parent


def test_the_committed_reference_is_what_the_generator_makes():
    assert generate.reference() == COMMITTED, "run `make docs`"


@pytest.mark.parametrize("section", inventory.SECTIONS)
def test_every_setting_has_a_row_with_its_variable_and_what_it_means(section):
    for field in dataclasses.fields(inventory.SECTIONS[section]):
        row = row_of(f"`{inventory.environment_variable(section, field.name)}`")
        assert row.startswith(f"| `{field.name}` |")
        assert field.metadata["help"] in row


def test_every_command_has_a_section_and_every_parameter_a_row():
    seen = set()
    for words, command in inventory.commands():
        assert f"\n### `{words}`\n" in COMMITTED
        seen.add(words.split()[1])
        section = COMMITTED.partition(f"### `{words}`\n")[2].partition("\n### ")[0]
        for one in command.params:
            if one.name != "help":
                name = one.opts[0] if one.param_type_name == "option" else one.name.upper()
                shown = (one.metavar or name).replace("|", "\\|")
                assert name in section or shown in section, (words, one.name)
                assert one.help is None or " ".join(one.help.split()) in section
    plugins = {found.name for found in entry_points(group="heatshield.commands")}
    assert plugins <= seen


def test_every_route_has_a_row():
    for path, operations in inventory.openapi()["paths"].items():
        for method in operations:
            assert row_of(f"| `{method.upper()} {path}` |", "HTTP")
    for path in inventory.plain_routes():
        assert row_of(f" {path}` |", "HTTP")


def test_the_guarded_routes_are_called_so():
    changing = ("POST /v1/breakers`", "DELETE /v1/breakers/{entry_id}`", "PUT /api/mode`")
    admin = {line for line in COMMITTED.splitlines() if "| admin |" in line}
    assert admin == {row_of(f"| `{route}") for route in changing}


def test_the_grpc_services_are_named():
    for service in GRPC_SERVICES:
        assert f"`{service}/Export`" in COMMITTED


def test_every_event_that_is_published_has_a_row_and_no_other():
    published = set()
    for file in COLLECTOR.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                first = node.args[0] if node.args else None
                if "publish" in node.func.attr and isinstance(first, ast.Constant):
                    published.add(first.value)
    assert published == set(EVENTS)
    assert all(row_of(f"| `{name}` |", "Events") for name in EVENTS)


def test_every_metric_and_every_label_that_acts_has_a_row():
    for module, heading in ((names, "Metrics"), (trip_policy, "Labels")):
        known = [value for name, value in vars(module).items() if name.isupper()]
        mine = [text for text in known if isinstance(text, str) and text.startswith("heatshield_")]
        assert mine
        for name in mine:
            assert row_of(f"`{name}`", heading)


def test_every_attribute_of_ours_has_a_row():
    known = [getattr(names, name) for name in vars(names) if name.isupper()]
    for name in known:
        if isinstance(name, str) and name.startswith(("heatshield.", "heatshield-")):
            assert f"`{name}`" in COMMITTED


def test_every_public_function_has_a_row():
    for name in heatshield.__all__:
        assert row_of(f"| `{name}", "Python")


def row_of(text, heading=""):
    """The one row that holds a text, below a heading."""
    section = COMMITTED.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = section if heading else COMMITTED
    rows = [line for line in lines.splitlines() if line.startswith("|") and text in line]
    assert len(rows) == 1, (text, rows)
    return rows[0]
