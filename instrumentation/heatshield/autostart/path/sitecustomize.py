# ruff: noqa: INP001  # a folder on PYTHONPATH, not a package
"""Instruments the starting process, then runs the ``sitecustomize`` that this one shadows.

This file also runs in interpreters without heatshield, such as tools of other environments that the
service starts. There it prints nothing, unless ``heatshield run`` started that process itself.
"""

import os
import sys
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def _instrument() -> None:
    try:
        from heatshield.autostart.start import start
    except Exception as error:  # noqa: BLE001  # the service must start without heatshield, too
        if os.environ.get("_HEATSHIELD_RUN") in {str(os.getpid()), str(os.getppid())}:
            with suppress(Exception):  # there may be no stderr
                sys.stderr.write(
                    f"heatshield: this process is not instrumented: {error}; "
                    f"is heatshield installed for {sys.executable}?\n"
                )
        return
    start()


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
