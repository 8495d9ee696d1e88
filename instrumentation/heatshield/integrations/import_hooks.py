"""Patches of a library whose parts are imported one by one, each patched as it comes."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from wrapt.importer import register_post_import_hook

from heatshield.counters import fail_open
from heatshield.integrations.patches import Patches

__all__ = ["Parts", "Point"]


class Point(NamedTuple):
    """What is to be patched.

    Attributes:
        module: where it is.
        owner: the class that it is a method of; empty for a function of the module.
        name: of the method or function.
        wrapper: makes what replaces it.
    """

    module: str
    owner: str
    name: str
    wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]


class Parts:
    """The patches of one integration. Hooks of imports can't be taken back, so they lead here.

    Args:
        integration: its name.
    """

    def __init__(self, integration: str) -> None:
        self._patches = Patches()
        self._points: tuple[Point, ...] = ()
        self._hooked: set[str] = set()
        self._imported = fail_open(integration, None)(self._patch)

    def install(self, points: tuple[Point, ...]) -> None:
        """Patch what is imported, and the rest when it is; replaces earlier patches.

        Raises:
            AttributeError: if what is imported is not as it is expected to be.
        """
        self.remove()
        self._points = points
        for name in dict.fromkeys(point.module for point in points):
            if name in sys.modules:
                self._patch(sys.modules[name])
            elif name not in self._hooked:
                self._hooked.add(name)
                # An error in a hook would fail the service's import.
                register_post_import_hook(self._imported, name)

    def remove(self) -> None:
        """Put everything back."""
        self._points = ()
        self._patches.undo()

    def _patch(self, module: ModuleType) -> None:
        for point in self._points:
            if point.module == module.__name__:
                owner = getattr(module, point.owner) if point.owner else module
                self._patches.wrap(owner, point.name, point.wrapper)
