"""What the packages say they export is there, once, and sorted by the linter."""

import importlib
import pkgutil

import pytest

import heatshield_alerts

MODULES = [
    "heatshield_alerts",
    *(row.name for row in pkgutil.walk_packages(heatshield_alerts.__path__, "heatshield_alerts.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_exports_and_has_it(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, exported) for exported in module.__all__)
