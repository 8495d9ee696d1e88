"""What decoding raises."""

from collections.abc import Mapping

__all__ = ["DecodeError"]


class DecodeError(ValueError):
    """At least one payload of the batch is not a valid message; nothing of it was decoded.

    Attributes:
        bad: index in the batch to what is wrong with that payload. Empty where that is not known:
            decode the payloads one by one to find out.
    """

    def __init__(self, reason: str, bad: Mapping[int, str] | None = None) -> None:
        super().__init__(reason)
        self.bad = dict(bad or {})
