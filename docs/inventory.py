"""What the code has that people call by name: settings, commands, routes, named texts.

docs/generate.py writes it down; tests hold the other pages against it.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

import typer
from typer.main import get_command, get_group

from heatshield.cli.app import app
from heatshield.cli.options import OperatorSettings
from heatshield.settings import ENVIRONMENT_PREFIX, ServiceSettings
from heatshield_collector.api.app import create_app
from heatshield_collector.gateways import routes as check_routes
from heatshield_collector.intake.http import routes
from heatshield_collector.ports import Ports
from heatshield_collector.settings import CollectorSettings

__all__ = [
    "SECTIONS",
    "Named",
    "commands",
    "environment_variable",
    "markdown",
    "named_texts",
    "openapi",
    "plain_routes",
]

SECTIONS: Final[dict[str, type]] = {
    "service": ServiceSettings,
    "collector": CollectorSettings,
    "cli": OperatorSettings,
}
"""Settings by their table in ``heatshield.toml``."""


def environment_variable(section: str, setting: str) -> str:
    """The variable that sets a setting."""
    infix = "" if section == "service" else f"{section}_"
    return f"{ENVIRONMENT_PREFIX}{infix}{setting}".upper()


def commands() -> Iterator[tuple[str, Any]]:
    """Every command, those of plug-ins and of groups too, by the words that call it."""
    own: Any = get_command(app)
    plugins = {found.name: found for found in entry_points(group="heatshield.commands")}
    for name, command in own.commands.items():
        real = _plugin(name, plugins[name].load()) if name in plugins else command
        yield from _with_subcommands(f"heatshield {name}", real)


def _plugin(name: str, target: Any) -> Any:
    if isinstance(target, typer.Typer):
        return get_group(target)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(target)
    return get_command(alone)


def _with_subcommands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield words, command
    for name, part in getattr(command, "commands", {}).items():
        yield from _with_subcommands(f"{words} {name}", part)


def openapi() -> dict[str, Any]:
    """What FastAPI says of the collector's routes."""
    described: dict[str, Any] = _application().openapi()
    return described


def plain_routes() -> list[str]:
    """Paths of the collector that OpenAPI does not list."""
    paths = [route.path for route in _application().routes if hasattr(route, "path")]
    listed = openapi()["paths"]
    return [path for path in paths if path not in listed]


def _application() -> Any:
    """The collector's HTTP face over nothing: it knows its routes, and could answer no request."""
    nothing = cast("Any", None)
    fields = {field.name: nothing for field in dataclasses.fields(Ports)}
    checks = check_routes(nothing, nothing, nothing)
    intake = routes(nothing, 0, nothing, nothing)
    return create_app(Ports(**fields), [*checks, *intake])


class Named(NamedTuple):
    """Constants of type text with the docstring below them, which neighbours share."""

    values: tuple[str, ...]
    text: str


def named_texts(module: ModuleType) -> Iterator[Named]:
    """What a module gives names to and says something of."""
    waiting: list[str] = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            waiting.append(node.target.id)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            values = [getattr(module, name) for name in waiting]
            texts = tuple(value for value in values if isinstance(value, str))
            if texts:
                yield Named(texts, markdown(str(node.value.value)))
            waiting.clear()


def markdown(text: str) -> str:
    """A docstring's ``code`` as Markdown has it."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(text))
