"""A request without time left, and how it looks on the wire. Saying so is no failure of a service.

Over HTTP it is a 504 with ``heatshield-deadline: 0``, over gRPC DEADLINE_EXCEEDED.
"""

from typing import Final

from heatshield.names import DEADLINE_HEADER
from heatshield.rejection import Response

__all__ = ["EXPIRED_STATUS", "DeadlineExceeded", "expiry_in", "is_expiry"]

EXPIRED_STATUS: Final = 504
"""What a service answers over HTTP; gRPC's DEADLINE_EXCEEDED maps to it."""


class DeadlineExceeded(Exception):  # noqa: N818  # gRPC's name for it
    """A call was not started, because its request has no time left. Not retried.

    Attributes:
        call: which; empty for the request itself.
    """

    def __init__(self, call: str = "") -> None:
        super().__init__(f"no time left for {call or 'this request'}; it was not started")
        self.call = call

    def __reduce__(self) -> tuple[type["DeadlineExceeded"], tuple[str]]:
        return (type(self), (self.call,))

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that mark the answer."""
        return {DEADLINE_HEADER: "0"}


def is_expiry(response: Response) -> bool:
    """Whether a service answered that no time was left."""
    return response.status_code == EXPIRED_STATUS and bool(response.headers.get(DEADLINE_HEADER))


def expiry_in(error: BaseException) -> DeadlineExceeded | None:
    """The expiry that ``error`` is, or that a group (from a task group) holds nothing but."""
    if isinstance(error, DeadlineExceeded):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [expiry_in(part) for part in error.exceptions]
        return found[0] if all(found) else None
    return None
