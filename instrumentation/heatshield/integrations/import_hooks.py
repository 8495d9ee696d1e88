"""Patches of a library whose modules are imported one by one, each patched as it comes."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from wrapt.importer import register_post_import_hook

from heatshield.counters import fail_open
from heatshield.integrations.patches import Patches

__all__ = ["ImportHooks", "ImportPatch"]


class ImportPatch(NamedTuple):
    """A patch to be made once a module is imported.

    Attributes:
        module: the module.
        owner: the class whose method is patched; empty for a function of the module.
        name: of the method or function.
        wrapper: makes what replaces it.
    """

    module: str
    owner: str
    name: str
    wrapper: Callable[..., object]


class ImportHooks:
    """The patches of one integration, and the import hooks that make them.

    Import hooks can't be taken back, so each leads here, to whatever patches are wanted then.

    Args:
        integration: its name.
    """

    def __init__(self, integration: str) -> None:
        self._patches = Patches()
        self._wanted: tuple[ImportPatch, ...] = ()
        self._hooked: set[str] = set()
        self._imported = fail_open(integration, None)(self._patch)

    def install(self, wanted: tuple[ImportPatch, ...]) -> None:
        """Patch what is imported, and the rest when it is; replaces earlier patches.

        Raises:
            AttributeError: if an imported module has not what is to be patched.
        """
        self.remove()
        self._wanted = wanted
        for name in dict.fromkeys(patch.module for patch in wanted):
            if name in sys.modules:
                self._patch(sys.modules[name])
            elif name not in self._hooked:
                self._hooked.add(name)
                # An error in a hook would fail the service's import.
                register_post_import_hook(self._imported, name)

    def remove(self) -> None:
        """Take the patches out again."""
        self._wanted = ()
        self._patches.undo()

    def _patch(self, module: ModuleType) -> None:
        for patch in self._wanted:
            if patch.module == module.__name__:
                owner: object = getattr(module, patch.owner) if patch.owner else module
                self._patches.wrap(owner, patch.name, patch.wrapper)
