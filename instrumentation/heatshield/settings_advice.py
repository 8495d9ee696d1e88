"""Settings that are allowed but rarely meant: pure."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from heatshield.names import (
    OTLP_LOGS_PATH,
    OTLP_METRICS_PATH,
    OTLP_TRACES_PATH,
    UNKNOWN_SERVICE,
)
from heatshield.settings import ServiceSettings

__all__ = ["advice", "faults"]

OTLP_PATHS: Final = frozenset({OTLP_TRACES_PATH, OTLP_LOGS_PATH, OTLP_METRICS_PATH})

SHORT_KEY: Final = 16
"""Characters of a key that can be guessed; ids can be, so the key is all that hides them."""

_BY_STRANGERS: Final = ("user_cookie", "user_jwt_claim", "user_query")
"""Settings that read what browsers and apps send."""


def faults(settings: ServiceSettings) -> Iterator[str]:
    """One sentence for each setting with which telemetry is lost, or can't be told apart."""
    if wrong := _wrong_endpoint(settings.endpoint):
        yield f"endpoint {settings.endpoint!r} {wrong}"
    if settings.service == UNKNOWN_SERVICE:
        yield (
            "service is not set, so all services without a name look like one: set "
            "HEATSHIELD_SERVICE, or say instrument(service=...)"
        )


def _wrong_endpoint(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as error:
        return f"is no address ({error}): say http://HOST:PORT"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        host = endpoint.rpartition("//")[2]
        return f"is no address of a collector: say http://{host or 'HOST:PORT'}"
    if parts.path.rstrip("/") in OTLP_PATHS:
        return f"ends in the path of one signal: say {parts.scheme}://{parts.netloc}"
    return ""


def advice(settings: ServiceSettings) -> Iterator[str]:
    """One sentence for each setting that should be looked at."""
    yield from faults(settings)
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
