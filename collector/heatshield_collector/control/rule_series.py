"""The series that rules are evaluated over, with their labels: what a rule file is checked for."""

from typing import Final

from heatshield import names
from heatshield.contract import BreakerMode
from heatshield_alerts.breaker_states import BreakerState
from heatshield_alerts.rules import KnownSeries
from heatshield_collector.detect import CLASSES, COSTS, WINDOWS_S

__all__ = ["ELSEWHERE", "RULE_SERIES"]

ANY: Final = ()
"""Values that services and rules choose."""

_CALL: Final = {"service": ANY, "call": ANY}
_WINDOWS: Final = {"window": tuple(WINDOWS_S)}

_HELD: Final = {
    "state": (BreakerState.OPEN.value, BreakerState.HALF_OPEN.value),
    "mode": tuple(mode.value for mode in BreakerMode),
}

RULE_SERIES: Final[KnownSeries] = {
    names.USER_LOAD: {"user": ANY, **_CALL, "cost": tuple(COSTS), **_WINDOWS},
    names.CALL_LOAD: {**_CALL, "cost": (*COSTS, "errors"), **_WINDOWS},
    names.FINDING: {
        "class": CLASSES,
        "user": ANY,
        **_CALL,
        "cost": tuple(COSTS),
        **_WINDOWS,
        "action": ("none", "pace", "reject"),
        "resource": ANY,
    },
    names.SERVICE_CAPACITY: {"service": ANY},
    names.ALERTS: {"alertname": ANY, "alertstate": ("pending", "firing")},
    names.RULE_FAILING: {"group": ANY, "rule": ANY},
    names.BREAKERS: _HELD,
    names.BREAKER_HELD: {"user": ANY, **_CALL, **_HELD},
}
"""By name: labels, and their values where these are not free."""

ELSEWHERE: Final = frozenset(
    value
    for value in vars(names).values()
    if isinstance(value, str) and value.startswith("heatshield_") and value not in RULE_SERIES
)
"""Our metrics that only Prometheus sees."""
