"""Instrumentation without code: Python imports ``sitecustomize`` before the service's own modules.

``heatshield run -- COMMAND`` starts COMMAND in :func:`environment`. Worker processes, spawned or
forked, inherit it. Under ``opentelemetry-instrument`` that program's ``sitecustomize`` comes first
and hides ours; then :mod:`heatshield.autostart.distro` is what it finds.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "MARK", "environment", "is_reached"]

FOLDER: Final = str(Path(__file__).parent / "path")
"""The folder that holds ``sitecustomize.py`` and nothing else, for it becomes importable."""

MARK: Final = "_HEATSHIELD_RUN"
"""Environment variable: the process that ``heatshield run`` became. It and its children say that
they have no heatshield; a tool in another environment, started deep below, does not."""

_OF_OPENTELEMETRY: Final = {
    "OTEL_PYTHON_DISTRO": "heatshield",
    "OTEL_PYTHON_CONFIGURATOR": "heatshield",
}


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with this package's ``sitecustomize`` first on ``PYTHONPATH``.

    An existing ``sitecustomize`` still runs: ours looks it up and imports it.
    """
    others = [part for part in _parts(base) if part != FOLDER]
    return {
        **_OF_OPENTELEMETRY,
        **base,
        "PYTHONPATH": os.pathsep.join([FOLDER, *others]),
        MARK: str(os.getpid()),
    }


def is_reached(environ: Mapping[str, str]) -> bool:
    """Whether processes that are started with these variables are instrumented."""
    return FOLDER in _parts(environ)


def _parts(environ: Mapping[str, str]) -> list[str]:
    return [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part]
