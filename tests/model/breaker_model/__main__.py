"""Searches for longer than the tests: ``PYTHONPATH=tests/model python -m breaker_model``."""

import argparse
import sys

from breaker_model import roots
from breaker_model.search import Found, search, walk
from breaker_model.small import ALPHABET, WALKING, small_constants


def main() -> int:
    """Search, then walk; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="breaker_model", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for the search")
    parser.add_argument("--depth", type=int, default=99, help="actions from a root, at most")
    parser.add_argument("--walk-seconds", type=float, default=300.0, help="for the random walks")
    parser.add_argument("--length", type=int, default=100, help="actions of a walk")
    parser.add_argument("--seed", type=int, default=1, help="of the walks")
    asked = parser.parse_args()
    with small_constants():
        found = search(
            roots.all_roots(),
            ALPHABET,
            most_s=asked.seconds,
            most_depth=asked.depth,
            progress=_say,
        )
        ended = [_report("search", found)]
        for root in roots.all_roots():
            part_s = asked.walk_seconds / len(roots.all_roots())
            walked = walk(root, WALKING, seed=asked.seed, length=asked.length, most_s=part_s)
            ended.append(_report(f"walks from “{root.name}”", walked))
    return int(not all(ended))


def _report(name: str, found: Found) -> bool:
    _say(f"{name}: {found}")
    if found.counterexample is not None:
        _say(str(found.counterexample))
    return found.counterexample is None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
