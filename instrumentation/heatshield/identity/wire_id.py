"""Ids as they stand on the wire: printable and short, whatever somebody is called.

Services, the collector's linking and whoever trips a breaker by hand all come to the same text for
the same id, or a user with an odd id could never be cut.
"""

from typing import Final

from heatshield.call_key import LONGEST, is_plain
from heatshield.fork_locks import importing

__all__ = ["wire_id"]

_KEPT: Final = 192
"""Characters of a long id that people still see."""

_DIGITS: Final = 32
"""Hexadecimal digits of the hash: 128 bits, so that no user can be given another's id."""

assert _KEPT + 1 + _DIGITS <= LONGEST  # noqa: S101  else it would be hashed again


def wire_id(text: str) -> str:
    """The id itself if it is plain, else its beginning, ``~`` and 32 digits of its SHA-256.

    Args:
        text: a user, service or call; plain is what :func:`heatshield.call_key.is_plain` says.
    """
    if is_plain(text):
        return text
    with importing("hashlib"):  # with it comes OpenSSL, which most services need not load
        import hashlib

    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    beginning = "".join(one if one.isprintable() else "?" for one in text[:_KEPT])
    return f"{beginning}~{digest[:_DIGITS]}"
