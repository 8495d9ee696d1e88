"""A rejection, and how it looks on the wire. It is not a failure: never retried, never counted.

Over HTTP it is a 503, or a 429 where less would have been let through (a paced user's line is full,
a declared limit is reached), with ``Retry-After`` and ``heatshield-breaker: <id>``; over gRPC
UNAVAILABLE, or RESOURCE_EXHAUSTED, with the same in its trailing metadata. Where a protocol has no
place for them, its integration says on the error which rejection it stands for
(:data:`STANDS_FOR`).
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from heatshield.names import AT_CALL, BREAKER_AT_HEADER, BREAKER_HEADER

__all__ = [
    "BreakerOpen", "Headers", "is_rejection", "marked_by", "raise_for_rejection", "refusal_in",
    "rejection_of",
]  # fmt: skip

UNAVAILABLE: Final = 503
TOO_MANY_REQUESTS: Final = 429
REFUSAL_STATUSES: Final = frozenset({UNAVAILABLE, TOO_MANY_REQUESTS})
"""The statuses that a rejection has over HTTP."""

LIMIT_HEADERS: Final = ("ratelimit", "ratelimit-policy")
"""By the IETF's draft-ietf-httpapi-ratelimit-headers-10."""
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
        entry_id: names the breaker entry, or the declared limit, as in the header
            ``heatshield-breaker``.
        retry_after_s: seconds after which another try may make sense.
        status: over HTTP: 503, or 429 where less would have been let through.
        limit_headers: what a declared limit says of itself (``RateLimit``), by lower-case name.
        at_call: whether the entry names the very call that this process was asked for, so that
            its caller may refuse the next one itself. Not handed on to callers further out.
    """

    at_call = False

    def __init__(
        self,
        entry_id: str,
        retry_after_s: float = DEFAULT_RETRY_AFTER_S,
        status: int = UNAVAILABLE,
        limit_headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"refused by breaker {entry_id}; try again in {retry_after_s:.0f} s")
        self.entry_id = entry_id
        self.retry_after_s = retry_after_s
        self.status = status
        self.limit_headers = dict(limit_headers or {})

    def __reduce__(
        self,
    ) -> tuple[type["BreakerOpen"], tuple[str, float, int, dict[str, str]]]:
        made_of = (self.entry_id, self.retry_after_s, self.status, self.limit_headers)
        return (type(self), made_of)

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that mark the rejection; whole seconds, rounded up, at least one.

        They can be sent by every server, whatever a downstream service or a handler called it.
        """
        marks = self.limit_headers | {
            "retry-after": str(max(1, math.ceil(self.retry_after_s))),
            BREAKER_HEADER: _UNSENDABLE.sub("?", self.entry_id[:MAX_ID_LENGTH]).strip(),
        }
        return {**marks, BREAKER_AT_HEADER: AT_CALL} if self.at_call else marks


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
        status, headers = _marked_headers(answer)
    except Exception:  # noqa: BLE001  # asked about whatever a handler raises
        return None
    return marked_by(headers, status)


def marked_by(headers: "Headers", status: int = UNAVAILABLE) -> BreakerOpen | None:
    """The rejection that the headers of an answer with this status mark; ``None`` for none."""
    entry_id = headers.get(BREAKER_HEADER)
    if not entry_id or status not in REFUSAL_STATUSES:
        return None
    said = {name: headers.get(name) for name in LIMIT_HEADERS}
    return BreakerOpen(
        str(entry_id)[:MAX_ID_LENGTH],
        _seconds(headers.get("retry-after")),
        status,
        {name: value for name, value in said.items() if value},
    )


_OF_GRPC: Final = {"UNAVAILABLE": UNAVAILABLE, "RESOURCE_EXHAUSTED": TOO_MANY_REQUESTS}

_NO_HEADERS: Final[Mapping[str, str]] = {}


def _marked_headers(answer: Any) -> tuple[int, Mapping[str, str]]:
    """Status over HTTP, and headers or trailing metadata; none if no rejection has that status."""
    # aiohttp, also where it raises an answer, and urllib3 call it status.
    status = getattr(answer, "status_code", None) or getattr(answer, "status", None)
    if status in REFUSAL_STATUSES:
        return status, answer.headers or _NO_HEADERS
    if isinstance(answer, BaseException) and hasattr(answer, "trailing_metadata"):
        code = answer.code()  # type: ignore[attr-defined]  # gRPC's errors
        status = _OF_GRPC.get(getattr(code, "name", ""))
        if status is not None:
            return status, dict(answer.trailing_metadata() or ())
    # httpx, requests and others raise errors that have the answer.
    response = getattr(answer, "response", None) if isinstance(answer, Exception) else None
    return (0, _NO_HEADERS) if response is None else _marked_headers(response)


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
