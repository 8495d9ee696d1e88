"""The labels by which a rule asks for a breaker, and what they may say.

A label whose value is a template is known only once an alert has it; then
:mod:`heatshield_alerts.trip_policy` refuses what has no meaning. Every other is checked when the
rule is loaded: one with a typo there would cut no user, which would be noticed when it matters.
"""

import difflib
import math
from collections.abc import Collection
from typing import Final

from heatshield.contract import BreakerMode

__all__ = [
    "ACTION_LABEL",
    "ACTION_PREFIX",
    "MODE_LABEL",
    "RATE_LABEL",
    "TRIP_ACTION",
    "check_action_label",
    "nearest",
]

ACTION_PREFIX: Final = "heatshield_"
"""Labels that begin so are heatshield's: one that is none of the following is a typo."""

ACTION_LABEL: Final = "heatshield_action"
"""``trip`` asks for a breaker around the alert's ``user``, ``service`` and ``call``; without it, an
alert only tells people."""

MODE_LABEL: Final = "heatshield_mode"
"""What the breaker does to the user's calls: ``reject`` (the default), ``trickle`` or ``flag``."""

RATE_LABEL: Final = "heatshield_rate_per_s"
"""For ``trickle``: calls let through each second, in every instance; 0 unless it is given."""

TRIP_ACTION: Final = "trip"

_VALUES: Final = {ACTION_LABEL: (TRIP_ACTION,), MODE_LABEL: tuple(BreakerMode)}


def check_action_label(name: str, value: str) -> None:
    """Check a label of a rule, if it is one of heatshield's and no template.

    Raises:
        ValueError: it has no meaning; names the nearest that has.
    """
    if not name.startswith(ACTION_PREFIX):
        return
    known = (*_VALUES, RATE_LABEL)
    if name not in known:
        raise ValueError(f"{name!r} is not a label of heatshield's{nearest(name, known)}")
    if "{{" in value or not value:
        return
    if name == RATE_LABEL:
        _check_rate(value)
    elif value not in _VALUES[name]:
        raise ValueError(f"{value!r} has no meaning{nearest(value, _VALUES[name])}")


def _check_rate(value: str) -> None:
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ValueError(f"{value!r} is not a number of calls a second")


def nearest(text: str, known: Collection[str]) -> str:
    """What to say of the known text nearest to an unknown one; empty where nothing is known."""
    found = difflib.get_close_matches(text, [str(one) for one in known], n=1, cutoff=0.0)
    return f"; did you mean {found[0]!r}?" if found else ""
