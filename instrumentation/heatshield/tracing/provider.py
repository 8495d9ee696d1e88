"""The tracer provider that heatshield sets where the service has set none.

All spans are made: costs are measured by them, whether they are sent or not
(:mod:`~heatshield.export.sampling`). A caller's ``sampled`` flag of 0 asks that a trace not be
stored; following it here would hide a burning user.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, cast

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Link as ApiLink
from opentelemetry.trace import (
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.util import types as api
from opentelemetry.util._decorator import _agnosticcontextmanager

from heatshield.context.attachment import attach, detach
from heatshield.context.request import GUARD_KEY, REQUEST_KEY, Request
from heatshield.context.span_like import ids_of, is_sampled
from heatshield.counters import COUNTERS
from heatshield.fork_hooks import FORK_HOOKS, SAME_PROCESS
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.failure import described
from heatshield.tracing.ids import new_trace_id
from heatshield.tracing.span import ENTRY_KINDS, Span
from heatshield.tracing.span_records import Scope
from heatshield.tracing.values import Attributes

__all__ = ["PROVIDER", "Provider", "Tracer"]


class Processor(Protocol):
    """A span processor of the service's own, with the methods of the SDK's ``SpanProcessor``."""

    def on_start(self, span: trace.Span, parent_context: Context | None = None) -> object:
        """Called when a span starts."""
        ...

    def on_end(self, span: trace.Span) -> object:
        """Called when a span has ended."""
        ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued; whether that was done in time."""
        ...

    def shutdown(self) -> object:
        """Export what is queued and end."""
        ...


class Provider(trace.TracerProvider):
    """Makes tracers whose spans go to ``outlet``, or that lead to a provider that took over.

    Attributes:
        entered: called when work enters the process with a span.
        began: called with each span that begins.
        outlet: takes each span that ended; ``None`` drops them.
        successor: the service's own provider, where it set one after us.
    """

    def __init__(self) -> None:
        self.entered: Callable[[], object] | None = None
        self.began: Callable[[Span], object] | None = None
        self.outlet: Callable[[Span], object] | None = None
        self.successor: trace.TracerProvider | None = None
        self._processors: tuple[Processor, ...] = ()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: api.Attributes = None,
    ) -> "Tracer":
        """A tracer for one instrumentation."""
        del attributes
        return Tracer(
            self,
            Scope(instrumenting_module_name, instrumenting_library_version or "", schema_url or ""),
        )

    def add_span_processor(self, span_processor: Processor) -> None:
        """Let a processor of the service see each span too, as the SDK's provider would."""
        self._processors = (*self._processors, span_processor)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Ask the service's own processors to flush."""
        return all(processor.force_flush(timeout_millis) for processor in self._processors)

    def shutdown(self) -> None:
        """Shut the service's own processors down."""
        for processor in self._processors:
            processor.shutdown()

    def started(self, span: Span, context: Context) -> None:
        """Tell the service's own processors."""
        for processor in self._processors:
            try:
                processor.on_start(span, context)
            except Exception:  # noqa: BLE001  # the service's own, and no reason to fail a request
                COUNTERS.error("span processor")

    def finish(self, span: Span) -> None:
        """Lead a span that ended to the outlet and to the service's own processors."""
        outlet = self.outlet
        if outlet is not None:
            try:
                outlet(span)
            except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
                COUNTERS.error("span end")
        for processor in self._processors:
            try:
                processor.on_end(span)
            except Exception:  # noqa: BLE001  # same
                COUNTERS.error("span processor")

    @property
    def watched(self) -> bool:
        """Whether the service has processors of its own here."""
        return bool(self._processors)


class Tracer(trace.Tracer):
    """Starts spans for one instrumentation.

    Args:
        provider: where they lead.
        scope: the instrumentation.
    """

    def __init__(self, provider: Provider, scope: Scope) -> None:
        self._provider = provider
        self._scope = scope
        self._successors: tuple[trace.TracerProvider, trace.Tracer] | None = None

    def open(
        self, name: str, kind: SpanKind, attributes: Attributes, context: Context | None = None
    ) -> trace.Span:
        """Start a span, the fast way: ``attributes`` hold plain values and are taken over."""
        if self._provider.successor is not None:
            shown = cast("api.Attributes", SANITIZER.for_other_exporters(attributes))
            return self._of_successor().start_span(name, context, kind, shown)
        try:
            return self._started(
                name, kind, attributes, get_current() if context is None else context
            )
        except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
            COUNTERS.error("span start")
            return trace.INVALID_SPAN

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: api.Attributes = None,
        links: Sequence[ApiLink] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002  # the API's signature
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002  # same
    ) -> trace.Span:
        """Start a span as OpenTelemetry's API has it."""
        if self._provider.successor is not None:
            return self._of_successor().start_span(
                name, context, kind, attributes, links, start_time, record_exception,
                set_status_on_exception,
            )  # fmt: skip
        span = self.open(name, kind, {}, context)
        if isinstance(span, Span):
            if start_time:
                span.began_at(start_time)
            if attributes:
                span.set_attributes(attributes)
            for link in links or ():
                span.add_link(link.context, link.attributes)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(  # noqa: PLR0913, PLR0917  # the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: api.Attributes = None,
        links: Sequence[ApiLink] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: FBT001, FBT002  # the API's signature
        set_status_on_exception: bool = True,  # noqa: FBT001, FBT002  # same
        end_on_exit: bool = True,  # noqa: FBT001, FBT002  # same
    ) -> Iterator[trace.Span]:
        """Start a span and make it the current one."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        if not isinstance(span, Span):
            with use_span(span, end_on_exit, record_exception, set_status_on_exception):
                yield span
            return
        token = attach(set_span_in_context(span))
        try:
            yield span
        except Exception as error:
            if record_exception:
                span.record_exception(error)
            if set_status_on_exception:
                span.set_status(StatusCode.ERROR, described(error))
            raise
        finally:
            detach(token)
            if end_on_exit:
                span.end()

    def _started(self, name: str, kind: SpanKind, attributes: Attributes, context: Context) -> Span:
        if not SAME_PROCESS[0]:
            FORK_HOOKS.notice()  # before this span gets an id
        request = cast("Request | None", context.get(REQUEST_KEY))
        guard = cast("str", context.get(GUARD_KEY, ""))
        parent = get_current_span(context)
        trace_id, parent_id, state = ids_of(parent)
        span = Span(
            name, trace_id or new_trace_id(), parent_id, kind, attributes, self._scope, request,
            guard, self._provider.finish,
        )  # fmt: skip
        if state:
            span.trace_state = state
        if parent_id:
            span.sampled = is_sampled(parent)
        if kind in ENTRY_KINDS and self._provider.entered is not None:
            self._provider.entered()
        if self._provider.began is not None:
            self._provider.began(span)
        if self._provider.watched:
            self._provider.started(span, context)
        return span

    def _of_successor(self) -> trace.Tracer:
        if not SAME_PROCESS[0]:
            FORK_HOOKS.notice()
        provider = self._provider.successor
        if provider is None:
            return trace.NoOpTracer()
        if self._successors is None or self._successors[0] is not provider:
            scope = self._scope
            tracer = provider.get_tracer(scope.name, scope.version, scope.schema_url or None)
            self._successors = (provider, tracer)
        return self._successors[1]


PROVIDER: Final = Provider()
"""This process's; it outlives runtimes, as tracers that instrumentations hold do."""
