"""A rejection, and how it looks on the wire. It is not a failure: never retried, never counted.

Over HTTP it is a 503 with ``Retry-After`` and ``heatshield-breaker: <id>``.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

from heatshield.names import BREAKER_HEADER

__all__ = ["BreakerOpen", "is_rejection", "raise_for_rejection", "refusal_in"]

UNAVAILABLE: Final = 503
DEFAULT_RETRY_AFTER_S: Final = 10.0
"""Said when nothing better is known: the open time of Armeria's circuit breaker."""
MAX_RETRY_AFTER_S: Final = 900.0
"""No caller is told to stay away for longer than the longest lease."""
MAX_ID_LENGTH: Final = 256
"""Longer ids from the wire are cut; they would travel on in headers and spans."""


class BreakerOpen(Exception):  # noqa: N818  # a rejection is not an error, and the name is the field's
    """A breaker refused this call for this user.

    Attributes:
        entry_id: names the breaker entry, as in the header ``heatshield-breaker``.
        retry_after_s: seconds after which another try may make sense.
    """

    def __init__(self, entry_id: str, retry_after_s: float = DEFAULT_RETRY_AFTER_S) -> None:
        super().__init__(f"refused by breaker {entry_id}; try again in {retry_after_s:.0f} s")
        self.entry_id = entry_id
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type["BreakerOpen"], tuple[str, float]]:
        return (type(self), (self.entry_id, self.retry_after_s))

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that mark the rejection; whole seconds, rounded up, at least one."""
        return {
            "retry-after": str(max(1, math.ceil(self.retry_after_s))),
            BREAKER_HEADER: self.entry_id,
        }


class Response(Protocol):
    """What httpx, requests and their like answer with."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Any:
        """A mapping of header names, case-insensitive."""
        ...


def is_rejection(response: Response) -> bool:
    """Whether a breaker somewhere downstream refused this call. Such a call is not retried."""
    return response.status_code == UNAVAILABLE and bool(response.headers.get(BREAKER_HEADER))


def raise_for_rejection(response: Response) -> None:
    """Hand a downstream rejection on to the caller.

    Raises:
        BreakerOpen: if the response is a rejection; its id and Retry-After are kept.
    """
    if is_rejection(response):
        headers: Mapping[str, str] = response.headers
        raise BreakerOpen(
            str(headers[BREAKER_HEADER])[:MAX_ID_LENGTH], _seconds(headers.get("retry-after"))
        )


def refusal_in(error: BaseException) -> BreakerOpen | None:
    """The rejection that ``error`` is, or that a group (from a task group) holds nothing but."""
    if isinstance(error, BreakerOpen):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [refusal_in(part) for part in error.exceptions]
        return found[0] if all(found) else None
    return None


def _seconds(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return DEFAULT_RETRY_AFTER_S
    return min(value, MAX_RETRY_AFTER_S) if value > 0 else DEFAULT_RETRY_AFTER_S
