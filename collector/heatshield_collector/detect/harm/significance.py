"""Whether so many of so few can be chance."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["binomial_tail", "share_tail"]

_NEGLIGIBLE = 1e-12


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """The probability of at least so many successes.

    Exact but for terms that are a billionth of a thousandth of the sum; so it is quick for any
    number of trials where the successes are more than expected, which is where it is asked.

    Args:
        successes: 0 to ``trials``.
        trials: how many.
        chance: of each, 0 to 1.
    """
    if successes <= 0:
        return 1.0
    if successes > trials or chance <= 0.0:
        return 0.0
    if chance >= 1.0:
        return 1.0
    if successes <= trials * chance:
        return 1.0  # at least about a half; nobody asks how much
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(chance)
        + (trials - successes) * math.log1p(-chance)
    )
    term = total = 1.0
    odds = chance / (1.0 - chance)
    for at in range(successes, trials):
        term *= odds * (trials - at) / (at + 1)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(1.0, math.exp(log_term + math.log(total)))


def share_tail(
    spent_s: npt.NDArray[np.float64], pieces: npt.NDArray[np.float64], own: npt.NDArray[np.bool_]
) -> float:
    r"""The probability that so much of the time falls on the user's pieces by chance.

    Were the user as any other, each second would fall on the user's pieces as often as these are
    among all. Costs are uneven, and a few dear pieces decide: as many seconds as :math:`n` equal
    pieces weigh :math:`n = (\sum s)^2 / \sum s^2` (Kish's effective sample size, 1965), so that
    of ``n`` draws the user's part are the user's.

    Args:
        spent_s: of each row.
        pieces: that the row stands for; those of one row are taken to be of equal cost.
        own: bool[n], which are the user's.
    """
    some = pieces > 0
    squares = float((spent_s[some] ** 2 / pieces[some]).sum())
    total, count = float(spent_s[some].sum()), float(pieces[some].sum())
    if not squares:
        return 1.0
    mine = some & own
    trials = total * total / squares
    successes = trials * float(spent_s[mine].sum()) / total
    return binomial_tail(int(successes), round(trials), float(pieces[mine].sum()) / count)
