"""What a request to the collector comes to: an HTTP answer, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Answer", "Unreachable", "retry_after_s"]


class Unreachable(Exception):  # noqa: N818  # says what happened
    """The collector can't be reached, is too slow, or does not speak HTTP; says which."""


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


def retry_after_s(headers: Mapping[str, str], default_s: float) -> float:
    """What ``Retry-After`` says in seconds; the default if it is absent or a date."""
    try:
        return max(0.0, float(headers.get("retry-after", default_s)))
    except ValueError:
        return default_s
