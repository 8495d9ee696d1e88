"""Answers gateways that ask whether a user's call may go on to a service, instrumented or not."""

from heatshield_collector.gateways.checks import Checks, Question
from heatshield_collector.gateways.http import Shortcut, routes
from heatshield_collector.gateways.rate_limit import RATE_LIMIT_SERVICE, rate_limit_handler

__all__ = [
    "RATE_LIMIT_SERVICE",
    "Checks",
    "Question",
    "Shortcut",
    "rate_limit_handler",
    "routes",
]
