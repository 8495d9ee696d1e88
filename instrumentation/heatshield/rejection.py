"""A rejection, and how it looks on the wire. It is not a failure: never retried, never counted.

Over HTTP it is a 503 with ``Retry-After`` and ``heatshield-breaker: <id>``; over gRPC UNAVAILABLE
with the same in its trailing metadata. Where a protocol has no place for them, its integration says
on the error which rejection it stands for (:data:`STANDS_FOR`).
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from heatshield.names import BREAKER_HEADER

__all__ = [
    "BreakerOpen", "Headers", "is_rejection", "marked_by", "raise_for_rejection", "refusal_in",
    "rejection_of",
]  # fmt: skip

UNAVAILABLE: Final = 503
DEFAULT_RETRY_AFTER_S: Final = 10.0
"""Said when nothing better is known: the open time of Armeria's circuit breaker."""
MAX_RETRY_AFTER_S: Final = 900.0
"""No caller is told to stay away for longer than the longest lease."""
MAX_ID_LENGTH: Final = 256
"""Longer ids from the wire are cut; they would travel on in headers and spans."""
_UNSENDABLE: Final = re.compile(r"[^ -~]")
"""Whatever can't stand in every header: NUL ends a connection, gRPC takes ASCII alone."""
STANDS_FOR: Final = "heatshield_rejection"
"""Attribute of an error that stands for a rejection: the :class:`BreakerOpen`."""


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
        """The HTTP headers that mark the rejection; whole seconds, rounded up, at least one.

        They can be sent by every server, whatever a downstream service or a handler called it.
        """
        return {
            "retry-after": str(max(1, math.ceil(self.retry_after_s))),
            BREAKER_HEADER: _UNSENDABLE.sub("?", self.entry_id[:MAX_ID_LENGTH]).strip(),
        }


class Headers(Protocol):
    """Headers of an answer, whatever the library's class; it ignores case."""

    def get(self, name: str, /) -> str | None:
        """The value of a header; ``None`` if the answer has none of that name."""
        ...


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


def is_rejection(answer: Response | BaseException) -> bool:
    """Whether a breaker somewhere downstream refused this call. Such a call is not retried.

    Args:
        answer: a response over HTTP, or the error that its client, gRPC or Thrift raised.
    """
    return rejection_of(answer) is not None


def raise_for_rejection(answer: Response | BaseException) -> None:
    """Hand a downstream rejection on to the caller.

    Args:
        answer: as for :func:`is_rejection`.

    Raises:
        BreakerOpen: if it is a rejection; its id and Retry-After are kept.
    """
    rejection = rejection_of(answer)
    if rejection is not None:
        raise rejection


def rejection_of(answer: object) -> BreakerOpen | None:
    """The rejection that an answer or error is; ``None`` for any other. Never fails."""
    if isinstance(answer, BreakerOpen):
        return answer
    try:
        found = getattr(answer, STANDS_FOR, None)
        if isinstance(found, BreakerOpen):
            return found
        headers = _marked_headers(answer)
    except Exception:  # noqa: BLE001  # asked about whatever a handler raises
        return None
    return marked_by(headers)


def marked_by(headers: "Headers") -> BreakerOpen | None:
    """The rejection that the headers of an answer with its status mark; ``None`` for none."""
    entry_id = headers.get(BREAKER_HEADER)
    if not entry_id:
        return None
    return BreakerOpen(str(entry_id)[:MAX_ID_LENGTH], _seconds(headers.get("retry-after")))


_NO_HEADERS: Final[Mapping[str, str]] = {}


def _marked_headers(answer: Any) -> Mapping[str, str]:
    """Headers or trailing metadata, if the status is one that a rejection has."""
    # aiohttp, also where it raises an answer, and urllib3 call it status.
    status = getattr(answer, "status_code", None) or getattr(answer, "status", None)
    if status == UNAVAILABLE:
        headers: Mapping[str, str] = answer.headers or _NO_HEADERS
        return headers
    if isinstance(answer, BaseException) and hasattr(answer, "trailing_metadata"):
        code = answer.code()  # type: ignore[attr-defined]  # gRPC's errors
        if getattr(code, "name", "") == "UNAVAILABLE":
            return dict(answer.trailing_metadata() or ())
    # httpx, requests and others raise errors that have the answer.
    response = getattr(answer, "response", None) if isinstance(answer, Exception) else None
    return _NO_HEADERS if response is None else _marked_headers(response)


def refusal_in(error: BaseException) -> BreakerOpen | None:
    """The rejection that ``error`` is, or that a group (from a task group) holds nothing but."""
    if isinstance(error, BaseExceptionGroup):
        found = [refusal_in(part) for part in error.exceptions]
        return found[0] if all(found) else None
    return rejection_of(error)


def _seconds(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return DEFAULT_RETRY_AFTER_S
    return min(value, MAX_RETRY_AFTER_S) if value > 0 else DEFAULT_RETRY_AFTER_S
