"""One span, from its start on the request's way to its encoding in the export thread.

It implements OpenTelemetry's span API, so every instrumentation works with it, and reads like the
SDK's ``ReadableSpan``, so every exporter does. What makes it cheap: plain slots; ids as integers;
no lock, as only the code that runs a span writes to it; a context object only if it is asked for;
and the export thread looks user and call up in the request
(:class:`~heatshield.context.request.Request`) when it encodes the span.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Union, cast

from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.util import types as api
from opentelemetry.util.types import AttributeValue

from heatshield.context.request import Request
from heatshield.context.span_like import SAMPLED, UNSAMPLED, SpanLike
from heatshield.names import CALL, ENDUSER_ID, REJECTED, USER_SOURCE
from heatshield.rejection import BreakerOpen, refusal_in
from heatshield.sanitize.sanitizer import SANITIZER, is_ours
from heatshield.tracing.failure import described, text_of
from heatshield.tracing.ids import new_span_id
from heatshield.tracing.span_records import MAX_EVENTS, MAX_LINKS, Event, Link, Scope
from heatshield.tracing.values import MAX_ATTRIBUTES, Attributes, Plain, plain

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["ENTRY_KINDS", "RESOURCE", "EndedSpan", "Span"]

ENTRY_KINDS: Final = (SpanKind.SERVER, SpanKind.CONSUMER)
"""Kinds of spans with which work enters a process. The first of a request is its call."""

_REJECTION_TYPE: Final = f"{BreakerOpen.__module__}.{BreakerOpen.__qualname__}"
"""``exception.type`` of the event by which the SDK records a :class:`BreakerOpen`."""


class ProcessResource:
    """What this process is, for exporters of the service that ask a span for its resource.

    Attributes:
        attributes: answers the resource's attributes.
    """

    def __init__(self) -> None:
        self.attributes: Callable[[], Mapping[str, str | int]] = dict


RESOURCE: Final = ProcessResource()


class Span(SpanLike):
    """A span that records.

    Args:
        name: low cardinality.
        trace_id: 128 bits.
        parent_id: 64 bits; 0 for a root.
        kind: OpenTelemetry's.
        attributes: plain values; taken over, not copied.
        scope: the instrumentation that makes it.
        request: that it belongs to, if that is known here.
        guard: the innermost guard around it, or empty.
        finish: called once, with the span, when it ends.
    """

    __slots__ = (
        "_attributes", "_before_end", "_began_ns", "_context", "_finish", "dropped_attributes",
        "dropped_events", "dropped_links", "end_time", "events", "guard", "instrumentation_scope",
        "kind", "links", "name", "parent_id", "request", "sampled", "span_id", "start_time",
        "status_code", "status_description", "trace_id", "trace_state",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913, PLR0917  # one place makes spans, on every request's way
        self,
        name: str,
        trace_id: int,
        parent_id: int,
        kind: SpanKind,
        attributes: Attributes,
        scope: Scope,
        request: Request | None,
        guard: str,
        finish: Callable[["Span"], object],
    ) -> None:
        self.name = name
        self.trace_id = trace_id
        self.span_id = new_span_id()
        self.parent_id = parent_id
        self.kind = kind
        self.start_time = time_ns()
        self._began_ns = perf_counter_ns()  # a stepped clock must not make durations
        self.end_time = 0
        self._attributes = attributes
        self.instrumentation_scope = scope
        self.request = request
        self.guard = guard
        self._finish = finish
        self._context: SpanContext | None = None
        self._before_end: Sequence[Callable[[], object]] = ()
        self.trace_state = ""
        self.sampled = True  # what callers wish to be stored; it is exported either way
        self.status_code = StatusCode.UNSET
        self.status_description: str | None = None
        self.events: Sequence[Event] = ()
        self.links: Sequence[Link] = ()
        self.dropped_attributes = self.dropped_events = self.dropped_links = 0
        if request is not None and kind in ENTRY_KINDS and not request.call:
            request.enter(self._as_call(name), self)

    def began_at(self, start_time: int) -> None:
        """Set its start, in nanoseconds since the Unix epoch."""
        self._began_ns += start_time - self.start_time
        self.start_time = start_time

    @classmethod
    def read(cls, span: "ReadableSpan") -> Self:
        """A span of the SDK as one of ours; user and call are among its attributes already."""
        ours = cls.__new__(cls)
        context = cast("SpanContext", span.get_span_context())
        parent, scope = span.parent, span.instrumentation_scope
        ours.name, ours.kind, ours.request = span.name, span.kind, None
        ours.trace_id, ours.span_id = context.trace_id, context.span_id
        ours.parent_id = parent.span_id if parent is not None else 0
        ours.trace_state = context.trace_state.to_header() if context.trace_state else ""
        ours.sampled = context.trace_flags.sampled
        ours.start_time, ours.end_time = span.start_time or 0, span.end_time or 0
        ours.instrumentation_scope = Scope(
            *((scope.name, scope.version or "", scope.schema_url or "") if scope else ("",))
        )
        attributes = _plain(span.attributes)
        ours.guard = str(attributes.pop(CALL, ""))
        ours._attributes = attributes  # noqa: SLF001  # ours
        ours.events = [Event(e.name, e.timestamp, _plain(e.attributes)) for e in span.events]
        ours.links = [Link(link.context, _plain(link.attributes)) for link in span.links]
        ours.dropped_attributes, ours.dropped_links = span.dropped_attributes, span.dropped_links
        ours.dropped_events = span.dropped_events
        ours.status_code = span.status.status_code
        ours.status_description = span.status.description
        if REJECTED in attributes or _last_exception(ours.events) == _REJECTION_TYPE:
            ours._forgive()  # noqa: SLF001  # ours
        return ours

    # -- user and call ---------------------------------------------------------------------------

    @property
    def user(self) -> str | None:
        """The acting user, as far as this process knows by now."""
        return self.request.user if self.request is not None else None

    @property
    def call(self) -> str:
        """What it is charged to: the innermost guard, else the call of its request."""
        if self.guard:
            return self.guard
        if self.request is not None and self.request.call:
            return self.request.call
        return self._as_call(self.name) if self.kind is SpanKind.SERVER else ""

    def _as_call(self, name: str) -> str:
        """Its name as that of a call: what breakers know it by and what leaves are the same."""
        if is_ours(self.instrumentation_scope.name):
            return name  # of a route or a guard: the code's own
        return SANITIZER.name(name)

    # -- OpenTelemetry's API ---------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """Its ids, as an object."""
        context = self._context
        if context is None:
            state = TraceState.from_header([self.trace_state]) if self.trace_state else None
            flags = SAMPLED if self.sampled else UNSAMPLED
            context = SpanContext(self.trace_id, self.span_id, False, flags, state)
            self._context = context
        return context

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self.end_time

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute; a value that OTLP can't carry becomes text."""
        if self.end_time:
            return
        try:
            if len(self._attributes) >= MAX_ATTRIBUTES and key not in self._attributes:
                self.dropped_attributes += 1
                return
            self._attributes[key] = plain(value)
        except TypeError:  # a key that is no key
            self.dropped_attributes += 1

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set some attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: api.Attributes = None, timestamp: int | None = None
    ) -> None:
        """Note an event."""
        if self.end_time:
            return
        if len(self.events) >= MAX_EVENTS:
            self.dropped_events += 1
            return
        self.events = [*self.events, Event(name, timestamp or time_ns(), _plain(attributes))]

    def add_link(self, context: SpanContext, attributes: api.Attributes = None) -> None:
        """Refer to another span."""
        if self.end_time or not getattr(context, "is_valid", False):
            return
        if len(self.links) >= MAX_LINKS:
            self.dropped_links += 1
            return
        self.links = [*self.links, Link(context, _plain(attributes))]

    def update_name(self, name: str) -> None:
        """Rename it, and with it the call that it is."""
        if self.end_time:
            return
        self.name = name
        if self.request is not None and self.request.span is self:
            self.request.call = self._as_call(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; OK is final."""
        if self.end_time or self.status_code is StatusCode.OK:
            return
        code = status
        if isinstance(status, Status):
            code, description = status.status_code, status.description
        if code is StatusCode.ERROR and _is_of_rejection(description):
            return
        if isinstance(code, StatusCode) and code is not StatusCode.UNSET:
            self.status_code = code
            said = str(plain(description)) if description else None
            self.status_description = said if code is StatusCode.ERROR else None

    def record_exception(
        self,
        exception: BaseException,
        attributes: api.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002  # the API's signature
    ) -> None:
        """Note an exception as an event, with its stack; a rejection is none."""
        if refusal_in(exception) is not None:
            return
        kind = type(exception)
        trace_text = traceback.format_exception(kind, exception, exception.__traceback__)
        noted: dict[str, AttributeValue] = {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            "exception.message": text_of(exception),
            "exception.stacktrace": SANITIZER.quoting("".join(trace_text), exception),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**noted, **(attributes or {})}, timestamp)

    def before_end(self, work: Callable[[], object]) -> None:
        """Have ``work``, which must not raise, write on this span what it gathers until it ends."""
        if not self.end_time and work not in self._before_end:
            self._before_end = (*self._before_end, work)

    def end(self, end_time: int | None = None) -> None:
        """End it; only the first end counts."""
        if self.end_time:
            return
        if self._before_end:
            work, self._before_end = self._before_end, ()
            for each in work:
                each()
        if self.status_code is StatusCode.ERROR and REJECTED in self._attributes:
            self._forgive()
        self.end_time = end_time or self.start_time + perf_counter_ns() - self._began_ns
        self._finish(self)

    def release(self) -> None:
        """Drop the request once the span is exported.

        The two hold each other: only a full garbage collection would free them otherwise.
        """
        self.request = None

    def _forgive(self) -> None:
        """Clear the error of a rejected span: HTTP instrumentations mark every 503 as one."""
        self.status_code, self.status_description = StatusCode.UNSET, None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        """End it, with the error that left its block."""
        if isinstance(error, Exception):
            self.record_exception(error)
            self.set_status(StatusCode.ERROR, described(error))
        self.end()

    # -- as the SDK's exporters read it ----------------------------------------------------------

    @property
    def attributes(self) -> Mapping[str, Plain]:
        """All attributes, the user and the call among them."""
        added: Attributes = {}
        if call := self.call:
            added[CALL] = call
        if (user := self.user) is not None:
            added[ENDUSER_ID] = user
            if self.kind in ENTRY_KINDS and self.request is not None and self.request.source:
                added[USER_SOURCE] = self.request.source
        return SANITIZER.for_other_exporters({**self._attributes, **added})

    @property
    def dropped(self) -> int:
        """Attributes, events and links that were too many."""
        return self.dropped_attributes + self.dropped_events + self.dropped_links

    @property
    def resource(self) -> "Resource":
        """What this process is, for exporters of the service's own."""
        from opentelemetry.sdk.resources import Resource

        return Resource(RESOURCE.attributes())

    def to_json(self, indent: int | None = 4) -> str:
        """As the SDK's console exporter shows it."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        scope = self.instrumentation_scope
        readable = ReadableSpan(
            name=self.name,
            context=self.context,
            parent=self.parent,
            resource=self.resource,
            attributes=self.attributes,
            kind=self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=InstrumentationScope(scope.name, scope.version, scope.schema_url),
        )
        return str(readable.to_json(indent))

    @property
    def raw_attributes(self) -> Attributes:
        """The attributes that were set; not copied."""
        return self._attributes

    @property
    def context(self) -> SpanContext:
        """Its ids."""
        return self.get_span_context()

    @property
    def parent(self) -> SpanContext | None:
        """Its parent's ids."""
        if not self.parent_id:
            return None
        return SpanContext(self.trace_id, self.parent_id, False, SAMPLED)

    @property
    def status(self) -> Status:
        """How it went."""
        return Status(self.status_code, self.status_description)


def _is_of_rejection(description: str | None) -> bool:
    """Whether a status is the one that OpenTelemetry writes while a rejection leaves a span."""
    error = sys.exception()
    return error is not None and description == described(error) and refusal_in(error) is not None


def _last_exception(events: Sequence[Event]) -> object:
    """``exception.type`` of the exception that was recorded last; ``None`` if none was."""
    for event in reversed(events):
        if event.name == "exception":
            return event.attributes.get("exception.type")
    return None


def _plain(attributes: api.Attributes) -> Attributes:
    return {key: plain(value) for key, value in (attributes or {}).items()}


EndedSpan = Union[Span, "ReadableSpan"]
"""A span of ours, or of a provider of the service's own."""
