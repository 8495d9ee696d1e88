"""Small records of a span: its events, its links, and the instrumentation that made it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from opentelemetry.trace import SpanContext

from heatshield.tracing.values import Plain

__all__ = ["MAX_EVENTS", "MAX_LINKS", "Event", "Link", "Scope"]

MAX_EVENTS: Final = 128
MAX_LINKS: Final = 128
"""Events and links of a span, as in the SDK; more are counted, not kept."""


class Event(NamedTuple):
    """Something that happened during a span; its time in nanoseconds since the Unix epoch."""

    name: str
    timestamp: int
    attributes: Mapping[str, Plain]


class Link(NamedTuple):
    """Another span that this one has to do with."""

    context: SpanContext
    attributes: Mapping[str, Plain]


class Scope(NamedTuple):
    """Which instrumentation made a span."""

    name: str
    version: str = ""
    schema_url: str = ""

    @property
    def attributes(self) -> Mapping[str, Plain]:
        """None; exporters ask."""
        return {}
