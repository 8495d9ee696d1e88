"""The fair share of a service that a user who is slowed may go on using."""

from typing import Final

__all__ = ["MOST_PART", "fair_share"]

MOST_PART: Final = 0.8
"""Of the load that is hot: with more, pacing would end nothing."""

LEAST_PART: Final = 0.25
"""Of the load that is hot: with less, a person could not go on working. It harms nobody: as many
users as a service has workers may burn that much and are not hot."""


def fair_share(capacity: float, active_users: int, hot_at: float) -> float:
    """Busy seconds each second that a paced user may spend on a service, in all instances.

    An equal part of what the service has, among the users that are active, as far as that lies
    between a quarter and four fifths of what counts as hot there.

    Args:
        capacity: workers of the service.
        active_users: users seen lately.
        hot_at: the least load that is hot there.
    """
    equal = capacity / max(1, active_users)
    return min(max(equal, LEAST_PART * hot_at), MOST_PART * hot_at)
