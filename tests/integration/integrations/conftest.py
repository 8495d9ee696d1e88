"""What the tests of integrations share: this process instrumented, and a collector for others.

``service(**settings)`` instruments this process and keeps its spans and logs; ``collector``,
``run_python``, ``until`` and ``plain`` are for programs that run by themselves.
"""

import importlib.util
from pathlib import Path

_TESTS = Path(__file__).parents[2]


def _fixtures_of(path):
    """Tests are not packages, so another folder's fixtures are loaded by their file."""
    spec = importlib.util.spec_from_file_location(f"_shared_{path.parent.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_THIS_PROCESS = _fixtures_of(_TESTS / "unit" / "instrumentation" / "conftest.py")
_OTHERS = _fixtures_of(_TESTS / "integration" / "instrumentation" / "conftest.py")

service = _THIS_PROCESS.service
collector, run_python = _OTHERS.collector, _OTHERS.run_python
until, plain = _OTHERS.until, _OTHERS.plain
