"""Instrumentation without code: Python imports ``sitecustomize`` before the service's own modules.

``heatshield run -- COMMAND`` starts COMMAND in :func:`environment`. Worker processes, spawned or
forked, inherit it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "environment"]

FOLDER: Final = str(Path(__file__).parent / "path")
"""The folder that holds ``sitecustomize.py`` and nothing else, for it becomes importable."""


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with this package's ``sitecustomize`` first on ``PYTHONPATH``.

    An existing ``sitecustomize`` still runs: ours looks it up and imports it.
    """
    others = [part for part in base.get("PYTHONPATH", "").split(os.pathsep) if part != FOLDER]
    return {**base, "PYTHONPATH": os.pathsep.join([FOLDER, *filter(None, others)])}
