"""The wire formats of payloads: a new format is one file that decodes it, and one row here.

The composition root hands :data:`FORMATS` to the pipeline; listeners name a format in each
:class:`~heatshield_collector.intake.payload.Payload`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from heatshield_collector.decode import Decoded, decode_logs, decode_metrics, decode_traces
from heatshield_collector.intake.payload import OTLP, Signal

__all__ = ["FORMATS", "Decode", "Format"]

Decode: TypeAlias = Callable[[Sequence[bytes], int], Decoded]
"""Decodes the bodies of many payloads jointly, all received at one time (ns since the Unix epoch).

Raises :class:`~heatshield_collector.decode.DecodeError` when at least one of them is malformed; its
``bad`` names those, or is empty when they can't be told apart without decoding them one by one.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """One wire format of one signal.

    Attributes:
        name: what a payload calls it; unique together with ``signal``.
        signal: what the payloads hold.
        decode: bodies to rows.
        left_out: told to senders when records of a payload were left out: which ones are.
    """

    name: str
    signal: Signal
    decode: Decode
    left_out: str


FORMATS: Final = (
    Format(
        OTLP,
        "traces",
        decode_traces,
        "left out: a trace id must be 16 bytes and a span id 8, neither all zero, and "
        "a record must be valid",
    ),
    Format(OTLP, "logs", decode_logs, "left out: a record must be valid"),
    Format(
        OTLP,
        "metrics",
        decode_metrics,
        "left out: a metric needs a name, a point a value, a histogram a bucket more than bounds, "
        "and a record must be valid",
    ),
)
"""Every format the collector takes in."""
