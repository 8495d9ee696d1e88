"""Matches the hosts that may receive trace and user headers against patterns.

Instrumentations of HTTP clients ask for headers without naming the host, but the current span is
then that of the call, and its attributes name the host.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind

from heatshield.context.span_like import attributes_of

__all__ = ["AllowedHosts"]

_HOSTS: Final = ("server.address", "net.peer.name")
_URLS: Final = ("url.full", "http.url")


class AllowedHosts:
    """A set of hosts, given by patterns.

    Args:
        patterns: names or addresses; ``*.internal`` matches all names that end so, ``*`` any name.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        lowered = [pattern.strip().lower().rstrip(".") for pattern in patterns]
        self._all = "*" in lowered
        self._exact = frozenset(one for one in lowered if "*" not in one)
        self._endings = tuple(one.removeprefix("*") for one in lowered if one.startswith("*."))

    def __contains__(self, host: str) -> bool:
        name = host.strip("[]").lower().rstrip(".")
        return self._all or name in self._exact or name.endswith(self._endings)

    def allow(self, span: Span) -> bool:
        """Whether the call of this span goes to one of these hosts.

        A call that names no host, such as a message to a queue, counts as internal.
        """
        if getattr(span, "kind", None) is not SpanKind.CLIENT:
            return True
        attributes = attributes_of(span)
        host = _first(attributes, _HOSTS) or _host_of(_first(attributes, _URLS))
        return not host or host in self


def _first(attributes: Mapping[str, object], names: tuple[str, ...]) -> str:
    return next((str(attributes[name]) for name in names if attributes.get(name)), "")


@lru_cache(1_024)
def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return "?"  # matches no pattern but *
