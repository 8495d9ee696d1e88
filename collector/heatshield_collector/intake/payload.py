"""What intake hands to the commit loop, and what it gets back.

A listener (HTTP, gRPC) turns what it received into one :class:`Payload`, waits for
:meth:`Committer.submit`, and answers only then: a 2xx is the promise that the payload is durable.

::

    IntakeError                   nothing of this payload was kept
    ├── MalformedError            the sender's fault: 400, never retried
    ├── TooLargeError             the sender's fault: 413, never retried
    ├── UnsupportedError          the sender's fault: 415, never retried
    └── OverloadedError           ours: 503 with Retry-After, retried
"""

from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = [
    "Accepted",
    "Committer",
    "Counters",
    "IntakeError",
    "MalformedError",
    "OverloadedError",
    "Payload",
    "Signal",
    "TooLargeError",
    "UnsupportedError",
]

Signal = Literal["traces", "logs", "metrics"]


@dataclass(frozen=True, slots=True)
class Payload:
    """One export request as it came, uncompressed.

    Attributes:
        signal: which of OTLP's export requests it is.
        body: the request as protobuf bytes, not yet parsed when the sender sent protobuf.
        urgent: its sender says that a span in it is far costlier than usual.
    """

    signal: Signal
    body: bytes
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The payload is durable.

    Attributes:
        rejected: spans, log records or points that were left out; 0 when all were kept.
        reason: why, for a person; empty when all were kept.
    """

    rejected: int = 0
    reason: str = ""


class Committer(Protocol):
    """Makes payloads durable."""

    async def submit(self, payload: Payload) -> Accepted:
        """Return once the payload is durable.

        Raises:
            OverloadedError: the queue or the disk is full; the payload was not kept.
            MalformedError: it is no export request of its signal.
        """
        ...


class Counters(Protocol):
    """Counts what intake turns away (metric ``names.PAYLOADS_REFUSED``)."""

    def refused(self, cause: str) -> None:
        """Count one payload; ``cause`` is an error's :attr:`IntakeError.cause` or ``internal``."""
        ...


class IntakeError(Exception):
    """The payload was not accepted; the message says why, for whoever runs the sender."""

    cause = "internal"


class MalformedError(IntakeError):
    """The bytes are not what they claim to be."""

    cause = "malformed"


class TooLargeError(IntakeError):
    """The payload is over the limit, as sent or once inflated."""

    cause = "too_large"


class UnsupportedError(IntakeError):
    """The content type or content encoding is not one of ours."""

    cause = "unsupported"


class OverloadedError(IntakeError):
    """There is no room now; the sender should come again after ``retry_after_s`` seconds."""

    cause = "overload"

    def __init__(self, retry_after_s: float, reason: str = "the collector is overloaded") -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
