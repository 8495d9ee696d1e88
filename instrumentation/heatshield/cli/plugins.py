"""Loads commands of other packages from the entry point group ``heatshield.commands``.

An entry point is a plain function with typer's annotations, or a :class:`typer.Typer` of commands.
The help lists it without importing it, because its package may need an extra that is not installed.
A call imports it; if the extra is missing, the error names the line that installs it.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from heatshield.cli.errors import CliError

__all__ = ["MARKUP", "PluginCommand", "plugin_commands"]

GROUP: Final = "heatshield.commands"

OWN_PACKAGES: Final = (
    "heatshield",
    "heatshield_alerts",
    "heatshield_collector",
    "heatshield_dashboards",
    "heatshield_stickershop",
)
"""Packages that the distribution contains with or without extras."""

MARKUP: Final = "markdown"
"""Markup of help texts: paragraphs flow, and ``[collector]`` is text, not one of rich's styles."""


@dataclass(frozen=True, slots=True)
class Known:
    """Help of a command and the extra that it needs, known before its package is imported."""

    help: str
    extra: str


KNOWN: Final = {
    "up": Known("Start a collector on an embedded store.", "collector"),
    "signing-key": Known("Make a key to sign breakers by; print what services pin.", "collector"),
    "policy": Known("Show what rules may do and the declared limits; check a file.", "collector"),
    "simulate": Known("Run a made-up scene: who is found, slowed and cut, and why.", "collector"),
    "evaluate": Known("Run all scenes; compare detection with its targets.", "collector"),
    "replay": Known("Play recorded spans; print what would have been found and cut.", "collector"),
    "dashboards": Known("Generate, provision or push the Grafana dashboards.", "dashboards"),
    "demo": Known("Run the sticker shop: one hot user, without protection and with it.", "demo"),
}


class PluginCommand(TyperCommand):
    """Stands in for a command of another package until it is called.

    Args:
        entry_point: where the command is.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        known = KNOWN.get(entry_point.name)
        super().__init__(
            name=entry_point.name,
            help=known.help if known else f"Command of {entry_point.value.partition(':')[0]}.",
        )
        self._entry_point = entry_point
        self._extra = known.extra if known else ""

    def make_context(  # typer keeps the context's class private
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Hand the arguments to the real command; a shell's completion needs only this one."""
        if extra.get("resilient_parsing"):
            return super().make_context(info_name, args, parent, **extra)
        try:
            with says_how_to_install(self._entry_point.name, self._extra):
                target = self._entry_point.load()
        except CliError as error:
            if "--help" not in args:
                raise
            typer.echo(f"{error}. Then this shows its options, too.")
            return super().make_context(info_name, ["--help"], parent, **extra)
        return self._command(target).make_context(info_name, args, parent, **extra)

    def _command(self, target: Callable[..., object] | typer.Typer) -> Any:  # of a private class
        if isinstance(target, typer.Typer):
            group = get_group(target)
            group.invoke = self._says_how(group.invoke)  # type: ignore[method-assign]
            return group

        @functools.wraps(target)
        def run(*args: object, **kwargs: object) -> object:
            with says_how_to_install(self._entry_point.name, self._extra):
                return target(*args, **kwargs)

        app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
        app.command(self._entry_point.name)(run)
        return get_command(app)

    def _says_how(self, call: Callable[..., object]) -> Callable[..., object]:
        def said(*args: object, **kwargs: object) -> object:
            with says_how_to_install(self._entry_point.name, self._extra):
                return call(*args, **kwargs)

        return said


def plugin_commands() -> Iterator[PluginCommand]:
    """Yield a stand-in for each installed entry point, sorted by name."""
    for entry_point in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        yield PluginCommand(entry_point)


@contextmanager
def says_how_to_install(command: str, extra: str) -> Iterator[None]:
    """Turn the error of a missing third-party module into the line that installs it.

    The error of a missing module of ours is a defect, not a missing extra, and passes through.

    Raises:
        CliError: if a third-party module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not extra or missing in OWN_PACKAGES:
            raise
        raise CliError(
            f"`heatshield {command}` needs {missing}: pip install 'heatshield[{extra}]'"
        ) from error
