"""Settings that are allowed but rarely meant: pure."""

from collections.abc import Iterator
from typing import Final

from heatshield.settings import ServiceSettings

__all__ = ["advice"]

SHORT_KEY: Final = 16
"""Characters of a key that can be guessed; ids can be, so the key is all that hides them."""

_BY_STRANGERS: Final = ("user_cookie", "user_jwt_claim", "user_query")
"""Settings that read what browsers and apps send."""


def advice(settings: ServiceSettings) -> Iterator[str]:
    """One sentence for each setting that should be looked at."""
    if 0 < len(settings.user_key) < SHORT_KEY:
        yield (
            f"user_key has less than {SHORT_KEY} characters and can be guessed: "
            "32 random bytes in hexadecimal can't"
        )
    read = [name for name in _BY_STRANGERS if getattr(settings, name)]
    if read and settings.user_baggage and not settings.edge:
        yield (
            f"{read[0]} is read, as at an edge, but so is baggage: if strangers call this service, "
            "set edge = true, or they can act as any user"
        )
    if settings.user_key and not settings.redaction:
        yield "user_key hides user ids, but with redaction off their tokens are sent"
