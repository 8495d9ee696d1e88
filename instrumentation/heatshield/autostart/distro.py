"""The distro and configurator that ``opentelemetry-instrument`` loads by entry points.

OpenTelemetry loads the first distro that it finds. So beside other distros, ours acts only if
``OTEL_PYTHON_DISTRO=heatshield`` names it, as ``heatshield run`` does, and otherwise loads the
other one. The hook before OpenTelemetry's instrumentations joins, under ``heatshield run``, a
process that another distro has set up, and skips libraries that heatshield instruments itself.
"""

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypedDict
from urllib.parse import unquote

from opentelemetry.instrumentation.distro import (  # type: ignore[attr-defined]  # it is untyped
    BaseDistro,
    DefaultDistro,
)

from heatshield.autostart import is_reached
from heatshield.autostart.start import start
from heatshield.integrations.catalogue import CATALOGUE
from heatshield.integrations.registry import DISABLED
from heatshield.settings import ServiceSettings, SettingsError, load

__all__ = ["Configurator", "Distro", "before_instrumentations", "configurator", "distro"]

NAME: Final = "heatshield"
"""Name of our entry points."""

DISTRO_KEY: Final = "OTEL_PYTHON_DISTRO"
CONFIGURATOR_KEY: Final = "OTEL_PYTHON_CONFIGURATOR"
DISABLED_KEY: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_CONTRIB: Final = "opentelemetry.instrumentation."


class _OtelSettings(TypedDict, total=False):
    """Arguments of :func:`~heatshield.autostart.start.start` that ``OTEL_*`` variables set."""

    service: str | None
    disabled: tuple[str, ...]


class Distro(BaseDistro):  # type: ignore[misc]  # same
    """A distro that selects our configurator and does nothing else."""

    def _configure(self, **kwargs: object) -> None:
        del kwargs
        os.environ.setdefault(CONFIGURATOR_KEY, NAME)


class Configurator:
    """Instruments the process in place of configuring an SDK: heatshield has its own export."""

    def configure(self, **kwargs: object) -> None:
        """Instrument this process, unless OpenTelemetry is switched off."""
        del kwargs
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
            start(**_otel_settings())


def distro() -> BaseDistro:
    """Return our distro if it is named or the only one, else the other one."""
    other = _other("opentelemetry_distro", DISTRO_KEY)
    made = Distro() if other is None else other.load()()
    return made if isinstance(made, BaseDistro) else DefaultDistro()


def configurator() -> object:
    """Return our configurator if it is named or the only one, else the other one."""
    other = _other("opentelemetry_configurator", CONFIGURATOR_KEY)
    return Configurator() if other is None else other.load()()


def before_instrumentations() -> None:
    """Instrument under ``heatshield run``; skip OpenTelemetry's duplicates of our integrations."""
    if is_reached(os.environ):
        start(**_otel_settings())
    if _instrumented():
        BaseDistro.load_instrumentor = _without_duplicates(BaseDistro.load_instrumentor)


def _other(group: str, key: str) -> EntryPoint | None:
    """The first entry point that is not ours; ``None`` if there is none or ours is named."""
    if os.environ.get(key) == NAME:
        return None
    return next((one for one in entry_points(group=group) if one.name != NAME), None)


def _otel_settings() -> _OtelSettings:
    """Settings from ``OTEL_*`` variables; heatshield's own settings win over them."""
    try:
        ours = load(ServiceSettings)
    except SettingsError:
        return {}  # instrument() meets the same error and reports it
    disabled = [name.strip() for name in os.environ.get(DISABLED_KEY, "").split(",")]
    theirs = {
        one.name
        for one in CATALOGUE
        if "*" in disabled or any(_is_of(name.replace("-", "_"), one.name) for name in disabled)
    }
    attributes = dict(
        pair.strip().split("=", 1)
        for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
        if "=" in pair
    )
    service = ours.service or os.environ.get("OTEL_SERVICE_NAME")
    return {
        "disabled": (*ours.disabled, *sorted(theirs)),
        "service": service or unquote(attributes.get("service.name", "")) or None,
    }


def _without_duplicates(original: Callable[..., object]) -> Callable[..., None]:
    def load_instrumentor(self: BaseDistro, entry_point: EntryPoint, **kwargs: object) -> None:
        library = entry_point.module.removeprefix(_CONTRIB).partition(".")[0]
        if not any(_is_of(library, name) for name in _instrumented()):
            original(self, entry_point, **kwargs)

    return load_instrumentor


def _instrumented() -> list[str]:
    """The integrations that are active here, or will be when their library is imported."""
    runtime = sys.modules.get("heatshield.runtime")
    states = runtime.status().get("integrations", {}) if runtime is not None else {}
    return [name for name, state in states.items() if state != DISABLED]


def _is_of(library: str, integration: str) -> bool:
    """Whether OpenTelemetry's instrumentation (such as ``grpc_aio_client``) is of our library."""
    return library == integration or library.startswith(f"{integration}_")
