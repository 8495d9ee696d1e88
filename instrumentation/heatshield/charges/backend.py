"""Names the backend of a client's span: one Redis, one database server.

The namespace is no part of it: databases of one server share its processors.
"""

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["BLOCKING", "backend_of", "is_blocking"]

_SYSTEM: Final = ("db.system.name", "db.system")
_HOST: Final = ("server.address", "net.peer.name", "network.peer.address", "net.peer.ip")
_PORT: Final = ("server.port", "net.peer.port", "network.peer.port")
"""The stable semantic convention, and those before it and below it; as the collector has it."""

BLOCKING: Final = frozenset(
    {
        "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
        "XREAD", "XREADGROUP", "WAIT", "WAITAOF", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE",
        "MONITOR",
    }
)  # fmt: skip
"""Commands that wait in a backend and use nothing of it; as the collector has it."""


def is_blocking(name: str) -> bool:
    """Whether an operation of this name waits for somebody else: its time is a wait."""
    return name.partition(" ")[0].upper() in BLOCKING


def backend_of(attributes: Mapping[str, object]) -> str:
    """``redis cart:6379``, as far as the span says it; empty where it is of no backend.

    The collector names the backends of spans in the same way.
    """
    system = _first(attributes, _SYSTEM)
    if not system:
        return ""
    host = _first(attributes, _HOST)
    if not host:
        return f"{system} "
    port = _first(attributes, _PORT)
    return f"{system} {host}:{port}" if port else f"{system} {host}"


def _first(attributes: Mapping[str, object], names: Iterable[str]) -> object:
    for name in names:
        if name in attributes:
            return attributes[name]
    return None
