"""Instruments processes without code: Python imports ``sitecustomize`` before a service's modules.

``heatshield run -- COMMAND`` starts COMMAND in :func:`environment`. Worker processes, spawned or
forked, inherit it. ``opentelemetry-instrument`` puts its own ``sitecustomize`` before ours and
hides it, but loads :mod:`heatshield.autostart.distro` by its entry points.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "MARK", "environment", "is_reached"]

FOLDER: Final = str(Path(__file__).parent / "path")
"""The folder of ``sitecustomize.py``, which holds no other file, as its files become importable."""

MARK: Final = "_HEATSHIELD_RUN"
"""Environment variable with the id of the process that ``heatshield run`` became. That process and
its children report a missing heatshield; tools in other environments, further below, do not."""

_OF_OPENTELEMETRY: Final = {
    "OTEL_PYTHON_DISTRO": "heatshield",
    "OTEL_PYTHON_CONFIGURATOR": "heatshield",
}


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` with this package's ``sitecustomize`` first on ``PYTHONPATH``.

    An existing ``sitecustomize`` still runs: ours finds and imports it.
    """
    others = [part for part in _parts(base) if part != FOLDER]
    return {
        **_OF_OPENTELEMETRY,
        **base,
        "PYTHONPATH": os.pathsep.join([FOLDER, *others]),
        MARK: str(os.getpid()),
    }


def is_reached(environ: Mapping[str, str]) -> bool:
    """Whether a process that starts with these variables is instrumented."""
    return FOLDER in _parts(environ)


def _parts(environ: Mapping[str, str]) -> list[str]:
    return [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part]
