"""``heatshield doctor``: why nothing arrives, or why nothing is cut."""

import importlib
import importlib.metadata
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

__all__ = ["diagnose", "doctor"]

DISTRIBUTIONS: Final = ("heatshield", "opentelemetry-sdk", "opentelemetry-instrumentation")
"""Whose versions a report of a problem needs."""


def doctor(as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """Check the collector and this interpreter: reachable, instrumented, with what.

    Exits with 1 when no collector answers. `heatshield run -- heatshield doctor` shows what a
    service that is started this way would have.
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
    """Ask the collector and look around in this interpreter."""
    probes, error = _probe(source)
    _import_libraries()
    status = heatshield.status()
    states = status.pop("integrations", {})
    status.pop("python", None)  # stands among the versions
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
    """Import what a service may import, so that integrations show what would come of it."""
    for module in {module for one in CATALOGUE for module in one.modules}:
        with suppress(Exception):  # absent, or broken by itself: its state says so
            importlib.import_module(module)


def _probe(source: Collector) -> tuple[tuple[Probe, ...], str | None]:
    try:
        return tuple(_asked(source, path) for path in ("/healthz", "/readyz")), None
    except CollectorUnreachable as error:
        return (), str(error)


def _asked(source: Collector, path: str) -> Probe:
    status, latency_ms, answer = source.probe(path)
    reasons = answer.get("reasons") if isinstance(answer, dict) else None
    return Probe(path, status, latency_ms, tuple(str(reason) for reason in reasons or ()))


def _integration(name: str, library: str | None, state: str | None) -> Integration:
    version = _version(library) if library else None
    absent = library is not None and version is None
    return Integration(name, version, state or ("absent" if absent else "available"))


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
