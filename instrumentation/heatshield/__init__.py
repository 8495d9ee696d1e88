"""Finds the one user who is burning the platform, and refuses just that user's expensive call.

import heatshield

heatshield.instrument(service="shop")
"""

from heatshield import retry
from heatshield.api import (
    breaker,
    cost,
    deadline,
    enforce,
    flush,
    guard,
    instrument,
    processing,
    shutdown,
    status,
    tripped,
    user,
)
from heatshield.breakers.deadline_exceeded import DeadlineExceeded
from heatshield.rejection import BreakerOpen, is_rejection, raise_for_rejection
from heatshield.settings import SettingsError

__all__ = [
    "BreakerOpen",
    "DeadlineExceeded",
    "SettingsError",
    "breaker",
    "cost",
    "deadline",
    "enforce",
    "flush",
    "guard",
    "instrument",
    "is_rejection",
    "processing",
    "raise_for_rejection",
    "retry",
    "shutdown",
    "status",
    "tripped",
    "user",
]
