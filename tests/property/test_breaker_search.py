"""The breaker protocol by explicit-state search: the real machines, in every state that can be
reached within a number of steps, with messages lost, repeated and reordered, restarts of both
sides, clocks that jump, and leases and rules that end.

The model is in ``tests/model/breaker_model``; ``PYTHONPATH=tests/model python -m breaker_model``
searches for longer.
"""

import sys

import pytest
from breaker_model import roots
from breaker_model.mutants import MUTANTS, Mutant
from breaker_model.search import search, walk
from breaker_model.small import ALPHABET, WALKING, small_constants

SEARCH_S = 40.0
WALK_S = 3.0


def tell(what: object) -> None:
    """For people, who see it with ``pytest -s``."""
    sys.stdout.write(f"\n{what}\n")


@pytest.fixture(autouse=True)
def small():
    with small_constants():
        yield


def test_every_invariant_holds_in_every_state_that_is_reached():
    found = search(roots.all_roots(), ALPHABET, most_s=SEARCH_S)
    tell(found)
    assert found.counterexample is None, f"\n{found.counterexample}"
    assert found.depth >= 2


@pytest.mark.parametrize("root", range(len(roots.all_roots())))
def test_every_invariant_holds_on_long_random_walks(root: int):
    found = walk(roots.all_roots()[root], WALKING, seed=root, length=60, most_s=WALK_S)
    tell(found)
    assert found.counterexample is None, f"\n{found.counterexample}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_machine_with_a_mistake_is_found_out(mutant: Mutant, monkeypatch: pytest.MonkeyPatch):
    root = mutant.root()  # reached without the mistake
    mutant.make(monkeypatch)
    found = search([root], mutant.alphabet, most_s=60.0, settle_every=mutant.settle_every)
    tell(found.counterexample)
    assert found.counterexample is not None, found
    assert found.counterexample.trouble.partition(":")[0] in mutant.caught_by
