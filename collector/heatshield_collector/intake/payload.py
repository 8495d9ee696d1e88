"""What intake hands to the pipeline, and what it gets back.

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
from typing import Final, Literal, Protocol

__all__ = [
    "OTLP",
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

OTLP: Final = "otlp"
"""The format of OTLP's export requests as protobuf bytes."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One request of a sender as it came, uncompressed.

    Attributes:
        signal: what it holds.
        body: its bytes, not yet parsed where the sender sent the format itself.
        urgent: its sender says that a span in it is far costlier than usual.
        format: which of :data:`heatshield_collector.intake.formats.FORMATS` the bytes are in.
        left_out: records that the sender sent and that are not in ``body``, for they are damaged.
        mended: records in ``body`` whose texts were mended.
    """

    signal: Signal
    body: bytes
    urgent: bool = False
    format: str = OTLP
    left_out: int = 0
    mended: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The payload is durable.

    Attributes:
        rejected: spans, log records or points that were left out; 0 when all were kept.
        reason: why, for a person, or what was mended; empty when all were kept as they came.
    """

    rejected: int = 0
    reason: str = ""


class Committer(Protocol):
    """Makes payloads durable."""

    async def submit(self, payload: Payload) -> Accepted:
        """Return once the payload is durable.

        Raises:
            OverloadedError: the queue or the disk is full; the payload was not kept.
            MalformedError: its bytes are not in its format.
            UnsupportedError: no such format is known.
        """
        ...


class Counters(Protocol):
    """Counts what intake turns away (metric ``names.PAYLOADS_REFUSED``)."""

    def refused(self, cause: str) -> None:
        """Count one payload; ``cause`` is an error's :attr:`IntakeError.cause` or ``internal``."""
        ...


class IntakeError(Exception):
    """The payload was not accepted; the message tells the sender's operator why."""

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
    """There is no room now; the sender should send again after ``retry_after_s`` seconds."""

    cause = "overload"

    def __init__(self, retry_after_s: float, reason: str = "the collector is overloaded") -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
