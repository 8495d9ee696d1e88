"""Brings each integration in when the service imports its library, and out again.

Import hooks can't be taken back, so they outlive a runtime and lead to the registry of the next.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final

from wrapt import importer
from wrapt.importer import register_post_import_hook

from heatshield.counters import COUNTERS
from heatshield.fork_locks import IMPORTING, lock
from heatshield.integrations.catalogue import CATALOGUE, Integration
from heatshield.integrations.services import Services

__all__ = ["ABSENT", "ACTIVE", "DISABLED", "READY", "Registry"]

ACTIVE: Final = "active"
READY: Final = "ready"
"""Installed as soon as the service imports the library."""
ABSENT: Final = "absent"
DISABLED: Final = "disabled"

_LOGGER: Final = logging.getLogger("heatshield")


class Registry:
    """The integrations of one runtime, and the state of each.

    Args:
        services: what they may use.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = lock()
        self._states: dict[str, str] = {}

    def install_all(self) -> None:
        """Install what is imported already; the rest follows when it is."""
        _HOOKS.lead_to(self)
        for integration in CATALOGUE:
            if integration.name in self._services.settings.disabled:
                self._states[integration.name] = DISABLED
            elif any(sys.modules.get(module) is not None for module in integration.modules):
                self.install(integration)

    def install(self, integration: Integration) -> None:
        """Install one integration, once; a failure is counted, logged and kept as its state."""
        with self._lock:
            if integration.name in self._states:
                return
            self._states[integration.name] = ACTIVE
        # Without the lock: this imports, and a thread that holds an import's lock may come here.
        state = _try(integration, "install", self._services)
        if state not in (ACTIVE, ABSENT):
            _try(integration, "remove")  # whatever it had patched before it failed
        if state == ABSENT:
            self._states.pop(integration.name, None)
        else:
            self._states[integration.name] = state

    def remove_all(self) -> None:
        """Take out what is installed."""
        _HOOKS.lead_to(None)
        for integration in reversed(CATALOGUE):
            if self._states.pop(integration.name, None) == ACTIVE:
                _try(integration, "remove")

    def states(self) -> dict[str, str]:
        """Each integration's state: active, ready, absent, disabled, or ``failed: why``."""
        return {one.name: self._states.get(one.name) or _without(one) for one in CATALOGUE}


def _try(integration: Integration, step: str, *arguments: Services) -> str:
    try:
        module = importlib.import_module(f"heatshield.integrations.{integration.path}")
        getattr(module, step)(*arguments)
    except ModuleNotFoundError as error:
        if error.name in {name.partition(".")[0] for name in integration.modules}:
            return ABSENT
        return _failed(integration, step, error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the service goes on
        return _failed(integration, step, error)
    return ACTIVE


def _failed(integration: Integration, step: str, error: Exception) -> str:
    """A library that is there lacks what the integration patches: say so, it is not traced."""
    COUNTERS.error(integration.name)
    _LOGGER.warning("heatshield could not %s %s", step, integration.name, exc_info=error)
    return f"failed: {error!r}"


def _without(integration: Integration) -> str:
    return READY if any(_importable(module) for module in integration.modules) else ABSENT


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


class _Hooks:
    """One post-import hook for each module that some integration waits for."""

    def __init__(self) -> None:
        self._registry: Registry | None = None
        self._registered = False

    def lead_to(self, registry: Registry | None) -> None:
        self._registry = None  # registering calls the hooks of what is imported already
        if not self._registered:
            self._registered = True
            _keep_over_forks()
            for integration in CATALOGUE:
                for module in integration.modules:
                    register_post_import_hook(self._hook(integration), module)
        self._registry = registry

    def _hook(self, integration: Integration) -> Callable[[ModuleType], None]:
        def imported(_module: ModuleType) -> None:
            if self._registry is not None:
                self._registry.install(integration)

        return imported


def _keep_over_forks() -> None:
    """Fork only while no thread holds the lock of the hooks, or a child could never import.

    Every import takes it, those under the barrier, too.
    """
    IMPORTING.hold_too(lambda: importer._post_import_hooks_lock)  # noqa: SLF001  # nothing public leads to it


_HOOKS: Final = _Hooks()
