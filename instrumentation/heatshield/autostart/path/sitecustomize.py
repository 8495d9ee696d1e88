# ruff: noqa: INP001  # a folder on PYTHONPATH, not a package
"""Instruments the process that starts; then runs the sitecustomize that it stands before."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _instrument() -> None:
    try:
        import heatshield

        heatshield.instrument()
    except Exception as error:  # noqa: BLE001  # the service must start without us, too
        sys.stderr.write(f"heatshield: this process is not instrumented: {error}\n")


def _chain() -> None:
    """Import the next ``sitecustomize`` on the path under its own name."""
    here = Path(__file__).resolve().parent
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_instrument()
_chain()
