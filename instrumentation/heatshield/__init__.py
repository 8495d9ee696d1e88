"""Finds the one user who is burning the platform, and refuses just that user's expensive call.

import heatshield

heatshield.instrument(service="shop")
"""

from heatshield.api import breaker, cost, flush, guard, instrument, shutdown, status, user
from heatshield.breakers.rejection import BreakerOpen, is_rejection, raise_for_rejection
from heatshield.settings import SettingsError

__all__ = [
    "BreakerOpen",
    "SettingsError",
    "breaker",
    "cost",
    "flush",
    "guard",
    "instrument",
    "is_rejection",
    "raise_for_rejection",
    "shutdown",
    "status",
    "user",
]
