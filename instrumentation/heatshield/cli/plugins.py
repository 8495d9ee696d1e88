"""Commands that other packages bring, through the entry point group ``heatshield.commands``.

An entry point is a plain function with typer's annotations, or a :class:`typer.Typer` of commands.
It is listed without being imported, because its package may need an extra that is not installed;
it is imported when it is called, and a missing extra is then answered with the line that
installs it.
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
    "stickershop",
)
"""What the one distribution always contains, extras or not."""


MARKUP: Final = "markdown"
"""How help texts are read: paragraphs flow, and ``[collector]`` is text, not a style of rich's."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is said of a command before its package is imported."""

    help: str
    extra: str


KNOWN: Final = {
    "up": Known("Start a collector on an embedded store.", "collector"),
    "dashboards": Known("Generate, provision or push the Grafana dashboards.", "dashboards"),
    "demo": Known("Run the sticker shop's story: one hot user, unprotected, then cut.", "demo"),
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
            help=known.help if known else f"From {entry_point.value.partition(':')[0]}.",
        )
        self._entry_point = entry_point
        self._extra = known.extra if known else ""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Hand the arguments to the real command, unless only a shell's completion is asked for."""
        if extra.get("resilient_parsing"):
            return super().make_context(info_name, args, parent, **extra)
        with says_how_to_install(self._entry_point.name, self._extra):
            target = self._entry_point.load()
        return self._command(target).make_context(info_name, args, parent, **extra)

    def _command(self, target: Callable[..., Any] | typer.Typer) -> Any:
        if isinstance(target, typer.Typer):
            return get_group(target)

        @functools.wraps(target)
        def run(*args: Any, **kwargs: Any) -> Any:
            with says_how_to_install(self._entry_point.name, self._extra):
                return target(*args, **kwargs)

        app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
        app.command(self._entry_point.name)(run)
        return get_command(app)


def plugin_commands() -> Iterator[PluginCommand]:
    """A stand-in for each installed entry point, by name."""
    for entry_point in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        yield PluginCommand(entry_point)


@contextmanager
def says_how_to_install(command: str, extra: str) -> Iterator[None]:
    """Turn the absence of a third party's module into the line that installs it.

    A missing module of our own is a defect, not a missing extra, and is passed on.

    Raises:
        CliError: if a module of another package is not installed.
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
