"""The labels and annotations by which a rule asks for a breaker, and what they may say.

``heatshield_action: trip`` is a label, since it decides which alerts are the same one. How it is
carried out may stand in labels or in annotations.

A label whose value is a template is known only once an alert has it; then
:mod:`heatshield_alerts.trip_policy` refuses what has no meaning. Every other is checked when the
rule is loaded: one with a typo there would cut no user, which would be noticed when it matters.
"""

import difflib
import math
from collections.abc import Collection
from typing import Final

from heatshield.contract import MAX_LEASE_MS, BreakerMode, EntryScope
from heatshield_alerts.duration import parse_duration_s

__all__ = [
    "ACTION_LABEL",
    "ACTION_PREFIX",
    "DEFAULT_LADDER",
    "LADDER",
    "LADDERS",
    "LEASE",
    "MODE_LABEL",
    "PROBE",
    "RATE_LABEL",
    "SCOPE",
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
"""The one thing that the breaker does to the user's calls: ``pace``, ``reject``, ``trickle`` or
``flag``. Without it the ladder says."""

LADDER: Final = "heatshield_ladder"
"""Steps, the gentlest first: ``pace, reject`` unless it is given."""

DEFAULT_LADDER: Final = "pace, reject"

LADDERS: Final = {
    "pace, reject": (BreakerMode.PACE, BreakerMode.REJECT),
    "flag, reject": (BreakerMode.FLAG, BreakerMode.REJECT),
    **{mode.value: (mode, None) for mode in BreakerMode},
}
"""The ladders there are; the second step is taken two seconds after the first, where it did not
end it."""

SCOPE: Final = "heatshield_scope"
"""What it is around: ``user_call`` (the default), or ``user_service`` for all calls of the user to
the service."""

LEASE: Final = "heatshield_lease"
"""How long clients may enforce it after a renewal, such as ``30s``, the default."""

PROBE: Final = "heatshield_probe_per_s"
"""Calls a second that half-open lets through at first; doubled after every two clean seconds."""

RATE_LABEL: Final = "heatshield_rate_per_s"
"""For ``trickle``: calls let through each second, in every instance; 0 unless it is given."""

TRIP_ACTION: Final = "trip"

_VALUES: Final[dict[str, tuple[str, ...]]] = {
    ACTION_LABEL: (TRIP_ACTION,),
    MODE_LABEL: tuple(BreakerMode),
    LADDER: tuple(LADDERS),
    SCOPE: tuple(scope.value for scope in EntryScope if scope.for_rules),
}

_RATES: Final = (RATE_LABEL, PROBE)


def check_action_label(name: str, value: str) -> None:
    """Check a label or annotation of a rule, if it is one of heatshield's and no template.

    Raises:
        ValueError: it has no meaning; names the nearest that has.
    """
    if not name.startswith(ACTION_PREFIX):
        return
    known = (*_VALUES, *_RATES, LEASE)
    if name not in known:
        raise ValueError(f"{name!r} is not a label of heatshield's{nearest(name, known)}")
    if "{{" in value or not value:
        return
    if name in _RATES:
        _check_rate(value, least=math.ulp(0.0) if name == PROBE else 0.0)
    elif name == LEASE:
        _check_lease(value)
    elif value not in _VALUES[name]:
        raise ValueError(f"{value!r} has no meaning{nearest(value, _VALUES[name])}")


def _check_rate(value: str, least: float) -> None:
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not least <= rate < math.inf:
        raise ValueError(f"{value!r} is not a number of calls a second")


def _check_lease(value: str) -> None:
    lease_ms = round(parse_duration_s(value) * 1_000)
    if not 0 < lease_ms <= MAX_LEASE_MS:
        raise ValueError(f"{value!r} is no lease: it is more than 0, and at most 15 minutes")


def nearest(text: str, known: Collection[str]) -> str:
    """What to say of the known text nearest to an unknown one; empty where nothing is known."""
    found = difflib.get_close_matches(text, [str(one) for one in known], n=1, cutoff=0.0)
    return f"; did you mean {found[0]!r}?" if found else ""
