"""What ``opentelemetry-instrument`` finds by OpenTelemetry's entry points: a distro and more.

Where other distros are installed, too, ours acts only when it is named
(``OTEL_PYTHON_DISTRO=heatshield``, as ``heatshield run`` sets it) and stands back for them else:
OpenTelemetry takes whichever it comes upon first. The hook before its instrumentations joins a
process that another distro has set up, under ``heatshield run``, and leaves out what heatshield
instruments itself, so that nothing is done twice.
"""

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final
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
"""Of our entry points."""

DISTRO_KEY: Final = "OTEL_PYTHON_DISTRO"
CONFIGURATOR_KEY: Final = "OTEL_PYTHON_CONFIGURATOR"
DISABLED_KEY: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

_CONTRIB: Final = "opentelemetry.instrumentation."


class Distro(BaseDistro):  # type: ignore[misc]  # same
    """Leaves all to the configurator."""

    def _configure(self, **kwargs: Any) -> None:
        del kwargs
        os.environ.setdefault(CONFIGURATOR_KEY, NAME)


class Configurator:
    """Instruments instead of configuring an SDK: heatshield exports by itself."""

    def configure(self, **kwargs: Any) -> None:
        """Instrument this process, unless OpenTelemetry is switched off."""
        del kwargs
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
            start(**_as_opentelemetry_says())


def distro() -> Any:
    """Our distro, or that of others who were not told to stand back."""
    other = _other("opentelemetry_distro", DISTRO_KEY)
    made = Distro() if other is None else other.load()()
    return made if isinstance(made, BaseDistro) else DefaultDistro()


def configurator() -> Any:
    """Our configurator, or that of others."""
    other = _other("opentelemetry_configurator", CONFIGURATOR_KEY)
    return Configurator() if other is None else other.load()()


def before_instrumentations() -> None:
    """Join in where ``heatshield run`` is above; leave out what is instrumented by us."""
    if is_reached(os.environ):
        start(**_as_opentelemetry_says())
    if _instrumented():
        BaseDistro.load_instrumentor = _leaving_out(BaseDistro.load_instrumentor)


def _other(group: str, key: str) -> EntryPoint | None:
    """Whom to stand back for: the first that is not ours, unless we are named."""
    if os.environ.get(key) == NAME:
        return None
    return next((one for one in entry_points(group=group) if one.name != NAME), None)


def _as_opentelemetry_says() -> dict[str, Any]:
    """Settings that ``OTEL_*`` variables stand for, where heatshield's own don't say otherwise."""
    try:
        ours = load(ServiceSettings)
    except SettingsError:
        return {}  # whoever uses them meets it again, and says so
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


def _leaving_out(original: Callable[..., Any]) -> Callable[..., Any]:
    def load_instrumentor(self: BaseDistro, entry_point: EntryPoint, **kwargs: Any) -> None:
        library = entry_point.module.removeprefix(_CONTRIB).partition(".")[0]
        if not any(_is_of(library, name) for name in _instrumented()):
            original(self, entry_point, **kwargs)

    return load_instrumentor


def _instrumented() -> list[str]:
    """The integrations that are in use here, or will be once their library is imported."""
    runtime = sys.modules.get("heatshield.runtime")
    states = runtime.status().get("integrations", {}) if runtime is not None else {}
    return [name for name, state in states.items() if state != DISABLED]


def _is_of(library: str, integration: str) -> bool:
    """Whether OpenTelemetry's instrumentation and ours are of one library: ``grpc_aio_client``."""
    return library == integration or library.startswith(f"{integration}_")
