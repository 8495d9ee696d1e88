"""``heatshield doctor``: find out why no telemetry arrives, or why no breaker acts."""

import importlib
import importlib.metadata
import os
import platform
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Final

import typer

import heatshield
from heatshield.cli.client import Collector
from heatshield.cli.diagnosis import Diagnosis, Integration, Probe
from heatshield.cli.errors import CollectorUnreachable
from heatshield.cli.options import AsJson, Endpoint, collector
from heatshield.integrations.catalogue import CATALOGUE
from heatshield.settings import ServiceSettings, SettingsError, load

__all__ = ["diagnose", "doctor"]

DISTRIBUTIONS: Final = ("heatshield", "opentelemetry-sdk", "opentelemetry-instrumentation")
"""Distributions whose versions a bug report needs."""


def doctor(as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """Check that the collector answers, and show what this interpreter instruments.

    Exits with 1 if no collector answers. `heatshield run -- heatshield doctor` shows the
    instrumentation of a service that is started this way.
    """
    found = diagnose(collector(endpoint))
    from heatshield.cli.terminal import console, print_json

    if as_json:
        print_json({"reachable": found.reachable, **asdict(found)})
    else:
        from heatshield.cli.diagnosis_view import diagnosis_view

        console().print(diagnosis_view(found))
    if not found.reachable:
        raise typer.Exit(1)


def diagnose(source: Collector) -> Diagnosis:
    """Probe the collector and inspect this interpreter."""
    probes, error = _probe(source)
    _import_libraries()
    status = heatshield.status()
    states = status.pop("integrations", {})
    status.pop("python", None)  # `versions` has it
    if not status["instrumented"]:
        status["kill_switch_here"] = _kill_switch()
    return Diagnosis(
        endpoint=source.endpoint,
        error=error,
        probes=probes,
        instrumented=status.pop("instrumented"),
        instrumentation=status,
        integrations=tuple(
            _integration(one.name, one.distribution, states.get(one.name)) for one in CATALOGUE
        ),
        versions={
            "python": f"{platform.python_version()} {sys.executable}",
            **{name: _version(name) for name in DISTRIBUTIONS},
        },
    )


def _import_libraries() -> None:
    """Import every library in the catalogue, so that each integration shows its final state."""
    for module in {module for one in CATALOGUE for module in one.modules}:
        with suppress(Exception):  # the integration's state says if its library is absent or broken
            importlib.import_module(module)


def _kill_switch() -> str:
    """Whether the file that throws it is there, as services find it that have these settings."""
    try:
        file = load(ServiceSettings).kill_switch_file
    except SettingsError as error:
        return f"unknown: {error}"
    if not file:
        return "no file throws it"
    return f"thrown by {file}" if os.path.lexists(file) else f"not thrown: there is no {file}"


def _probe(source: Collector) -> tuple[tuple[Probe, ...], str | None]:
    try:
        return tuple(_asked(source, path) for path in ("/healthz", "/readyz")), None
    except CollectorUnreachable as error:
        return (), str(error)


def _asked(source: Collector, path: str) -> Probe:
    status, latency_ms, answer = source.probe(path)
    said = answer if isinstance(answer, dict) else {}
    reasons, notes = (
        tuple(str(one) for one in said.get(name) or ()) for name in ("reasons", "notes")
    )
    return Probe(path, status, latency_ms, reasons, notes)


def _integration(name: str, library: str | None, state: str | None) -> Integration:
    version = _version(library) if library else None
    absent = library is not None and version is None
    return Integration(name, version, state or ("absent" if absent else "available"))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
