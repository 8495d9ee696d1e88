"""What a request to the collector comes to: an HTTP answer, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import BadStatusLine
from typing import Final

__all__ = ["GRPC_PORT", "Answer", "Unreachable", "retry_after_s", "speaks_http2"]

GRPC_PORT: Final = (
    "this port speaks HTTP/2, as one for gRPC does; heatshield sends over HTTP/1.1, by default to "
    "port 4318"
)
"""What is wrong where :func:`speaks_http2`."""

_SETTINGS: Final = "\0\0"
"""A server of HTTP/2 speaks first: a frame of settings, its length in the first three bytes."""


class Unreachable(Exception):  # noqa: N818  # says what happened
    """The collector can't be reached, is too slow, or does not speak HTTP; says which.

    Attributes:
        is_there: it took the connection, and then gave no whole answer.
        is_late: it was waited for in vain.
    """

    def __init__(self, why: str, *, is_there: bool = False, is_late: bool = False) -> None:
        super().__init__(why)
        self.is_there = is_there
        self.is_late = is_late


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004  # RFC 9110's class of success


def speaks_http2(error: BaseException) -> bool:
    """Whether a peer that was asked over HTTP/1.1 has answered as one of HTTP/2."""
    return isinstance(error, BadStatusLine) and str(error.args[0]).startswith(_SETTINGS)


def retry_after_s(headers: Mapping[str, str], default_s: float) -> float:
    """What ``Retry-After`` says in seconds; the default if it is absent or a date."""
    try:
        return max(0.0, float(headers.get("retry-after", default_s)))
    except ValueError:
        return default_s
