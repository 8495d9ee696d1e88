"""Whether so many of so few can be chance."""

import math

__all__ = ["binomial_tail"]

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
