"""What ``Content-Length`` says, whatever a peer may have written there."""

from typing import Final

__all__ = ["content_length"]

MAX_DIGITS: Final = 18
"""No body is longer; and Python refuses to read numbers of more than 4,300 digits."""


def content_length(text: str | bytes | None) -> int:
    """Bytes of a body; 0 if the header is absent or no number. Never raises.

    ``str.isdigit`` alone takes ``²`` for a digit, of which no number can be made.
    """
    if not text or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return 0
    return int(text)
