"""Every integration is in the documentation, and has a file of its own."""

import re
from pathlib import Path

import pytest

from heatshield.integrations.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
ROWS = "\n".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
DOCUMENTED = set(re.findall(r"`(\w+)`", ROWS))


@pytest.mark.parametrize("one", CATALOGUE, ids=[one.name for one in CATALOGUE])
def test_an_integration_has_a_row_and_a_file(one):
    assert one.name in DOCUMENTED
    file = f"instrumentation/heatshield/integrations/{one.path.replace('.', '/')}.py"
    assert (ROOT / file).is_file()


def test_no_name_stands_twice():
    names = [one.name for one in CATALOGUE]
    assert sorted(names) == sorted(set(names))
