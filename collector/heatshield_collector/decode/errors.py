"""What decoding can say no with."""

__all__ = ["DecodeError"]


class DecodeError(ValueError):
    """At least one payload of the batch is not a valid message; nothing of it was decoded.

    Decode the payloads one by one to find out which.
    """
