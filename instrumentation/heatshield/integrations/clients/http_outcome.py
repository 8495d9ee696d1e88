"""What an HTTP answer says of the service that gave it, as a local breaker sees it."""

from typing import Final

from heatshield.breakers.deadline_exceeded import is_expiry
from heatshield.rejection import TOO_MANY_REQUESTS, Response, is_rejection
from heatshield.resilience.local_breaker import Outcome

__all__ = ["http_outcome"]

SERVER_ERROR: Final = 500
"""From here on a status is a failure, as in Armeria's ``onServerErrorStatus``."""


def http_outcome(response: Response) -> Outcome:
    """Failure from 500 on, but not if a breaker refused it or its caller had no time left."""
    is_failure = response.status_code >= SERVER_ERROR
    if not is_failure and response.status_code != TOO_MANY_REQUESTS:
        return Outcome.SUCCESS
    if is_rejection(response) or is_expiry(response):
        return Outcome.REJECTED
    return Outcome.FAILURE if is_failure else Outcome.SUCCESS
