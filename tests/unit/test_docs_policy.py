"""The files that docs/policy.md and docs/limits.md show can be used, and say all that there is."""

import re
from pathlib import Path

import pytest

from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_alerts.policy import load_text
from heatshield_alerts.policy.load import _LADDERS, _LIMIT_KEYS, _RULES_KEYS
from heatshield_alerts.policy.model import CEILINGS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("policy.md", "limits.md")}


@pytest.mark.parametrize("page", PAGES)
def test_the_example_is_a_policy(page: str) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)
    policy = load_text(example)
    assert policy.limits


def test_every_key_has_its_row_and_every_ceiling_is_named() -> None:
    for name in _RULES_KEYS:
        (row,) = [line for line in PAGES["policy.md"].splitlines() if line.startswith(f"| `{name}`")
                  or (line.startswith("| `never_calls`") and name == "never_users")]  # fmt: skip
        if name in CEILINGS:
            assert f"0 to {CEILINGS[name]:,}" in row
    for ladder in _LADDERS:
        assert f"`{ladder}`" in PAGES["policy.md"]


def test_every_key_and_value_of_a_limit_is_explained() -> None:
    for word in (*_LIMIT_KEYS, *LimitPer, *LimitUnit):
        assert f"`{word}`" in PAGES["limits.md"]
