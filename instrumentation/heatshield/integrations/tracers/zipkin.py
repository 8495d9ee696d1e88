"""py-zipkin in an instrumented service: its spans belong to the same trace, and are seen here too.

A service written with py-zipkin may go on reporting to a Zipkin. One of our spans mirrors each of
its spans with the same id, so spans within are its children, and the time that a service waits in
it is not charged as busy. py-zipkin in turn learns the trace that runs: a root that it would begin
continues our span, and headers can be made where it has no span.

A root that continues the headers of a request keeps their ids, as a Zipkin expects: there client
and server share a span.
"""

from collections.abc import Callable
from contextvars import Token
from functools import wraps
from typing import Final, NamedTuple

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, get_current_span, set_span_in_context
from py_zipkin import Kind  # type: ignore[attr-defined]  # where its documentation has it
from py_zipkin.storage import Tracer
from py_zipkin.util import ZipkinAttrs
from py_zipkin.zipkin import zipkin_span

from heatshield.context.attachment import attach, detach
from heatshield.context.propagator import RequestPropagator
from heatshield.context.request import request_in
from heatshield.context.span_like import ids_of, is_sampled
from heatshield.counters import fail_open
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services
from heatshield.tracing.failure import fail
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import stamp_user

__all__ = ["NAME", "install", "remove"]

NAME: Final = "zipkin"

_TRACER: Final = PROVIDER.get_tracer("heatshield.zipkin")
_PATCHES: Final = Patches()
_MIRROR: Final = "_heatshield_mirror"
"""Attribute of a span of py-zipkin's: ours."""

_KINDS: Final = {
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.SERVER: SpanKind.SERVER,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}

Chosen = tuple[bool, ZipkinAttrs | None]
"""What py-zipkin chooses for a span: whether it reports the root, and its ids."""


def install(services: Services) -> None:
    """Patch py-zipkin's spans and what knows the current one; replaces an earlier patch."""
    _PATCHES.undo()
    mirroring = _Mirroring(services.propagator)
    _PATCHES.wrap(zipkin_span, "start", mirroring.starting)
    _PATCHES.wrap(zipkin_span, "_get_current_context", _continuing)
    _PATCHES.wrap(zipkin_span, "stop", _stopping)
    _PATCHES.wrap(Tracer, "get_zipkin_attrs", _knowing)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


class Mirror(NamedTuple):
    """Our span beside one of py-zipkin's.

    Attributes:
        span: ours.
        parent_id: of ours; 0 for a root.
        context: in which ours is the current span.
        token: restores the context before it.
    """

    span: Span
    parent_id: int
    context: Context
    token: Token[Context]


class _Mirroring:
    """Opens mirrors.

    Args:
        propagator: reads where a root comes from.
    """

    def __init__(self, propagator: RequestPropagator) -> None:
        self._read = propagator.read

    def starting(self, original: Original) -> Original:
        """A patch of a span's start."""

        @wraps(original)
        def start(span: zipkin_span) -> object:
            setattr(span, _MIRROR, self._open(span))
            return original(span)

        return start

    @fail_open("zipkin", None)
    def _open(self, theirs: zipkin_span) -> Mirror | None:
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY):
            return None
        trace_id, parent_id, _ = ids_of(get_current_span(context))
        if not trace_id:
            if not theirs._is_local_root_span:  # noqa: SLF001  # it has no public name
                return None  # outside of any trace, py-zipkin makes none either
            context = self._context_of(theirs.zipkin_attrs_override)
            _, parent_id, _ = ids_of(get_current_span(context))
        request = request_in(context)
        kind = _KINDS.get(theirs.kind, SpanKind.INTERNAL)
        if kind is SpanKind.SERVER and request is not None and request.call:
            kind = SpanKind.INTERNAL  # its server has a span already
        span = _TRACER.open(theirs.span_name, kind, {}, context)
        if request is not None:
            stamp_user(span, request)
        within = set_span_in_context(span, context)
        return Mirror(span, parent_id, within, attach(within))

    def _context_of(self, attrs: ZipkinAttrs | None) -> Context:
        """The context of a root: of the request whose headers it continues, or a new one."""
        headers = {}
        if attrs is not None:
            ids = f"{attrs.trace_id:0>32}-{attrs.span_id:0>16}".lower()
            headers = {"traceparent": f"00-{ids}-0{int(attrs.is_sampled)}"}
        inbound = self._read(headers.get)
        return inbound.context(inbound.request())


def _continuing(original: Callable[..., Chosen]) -> Original:
    """A patch of the choice of a span's ids: those of its mirror."""

    @wraps(original)
    def get_current_context(span: zipkin_span) -> Chosen:
        chosen = original(span)
        return _with_ids(span, *chosen) or chosen

    return get_current_context


@fail_open("zipkin", None)
def _with_ids(
    theirs: zipkin_span,
    report_root: bool,  # noqa: FBT001  # py-zipkin's
    attrs: ZipkinAttrs | None,
) -> Chosen | None:
    mirror: Mirror | None = getattr(theirs, _MIRROR, None)
    if mirror is None or attrs is None:
        return None
    trace_id, span_id, _ = ids_of(mirror.span)
    same = int(attrs.trace_id, 16) == trace_id
    if not trace_id or (same and attrs is theirs.zipkin_attrs_override):
        return None
    own = f"{span_id:016x}"
    parent = attrs.parent_span_id if same else None
    if parent in (None, own):  # it took the mirror for what is around it
        parent = f"{mirror.parent_id:016x}" if mirror.parent_id else None
    written = attrs.trace_id if same else _written(trace_id)
    return report_root, attrs._replace(trace_id=written, span_id=own, parent_span_id=parent)


def _stopping(original: Original) -> Original:
    """A patch of a span's end."""

    @wraps(original)
    def stop(span: zipkin_span, *args: object, **kwargs: object) -> object:
        tags = _tags(span)
        try:
            return original(span, *args, **kwargs)
        finally:
            _close(span, tags, args[1] if len(args) > 1 else kwargs.get("_exc_value"))

    return stop


_NO_TAGS: Final[dict[str, str]] = {}


@fail_open("zipkin", _NO_TAGS)
def _tags(theirs: zipkin_span) -> dict[str, str]:
    """The tags of a span; a root's logging context has its own."""
    said = {**theirs.binary_annotations, **getattr(theirs.logging_context, "tags", {})}
    return {str(name): str(value) for name, value in said.items()}


@fail_open("zipkin", None)
def _close(theirs: zipkin_span, tags: dict[str, str], error: object) -> None:
    mirror: Mirror | None = getattr(theirs, _MIRROR, None)
    setattr(theirs, _MIRROR, None)
    if mirror is None:
        return
    if get_current() is mirror.context:  # a span may be stopped in another context
        detach(mirror.token)
    span = mirror.span
    try:
        span.update_name(theirs.span_name)
        span.set_attributes(tags)
        if isinstance(error, Exception):
            fail(span, error)
    finally:
        span.end()


def _knowing(original: Original) -> Original:
    """A patch of the look-up of the current span: where py-zipkin has none, ours is it."""

    @wraps(original)
    def get_zipkin_attrs(tracer: object) -> object:
        return original(tracer) or _current()

    return get_zipkin_attrs


@fail_open("zipkin", None)
def _current() -> ZipkinAttrs | None:
    context = get_current()
    span = get_current_span(context)
    trace_id, span_id, _ = ids_of(span)
    if not trace_id or context.get(_SUPPRESS_INSTRUMENTATION_KEY):
        return None
    parent_id = getattr(span, "parent_id", 0)
    parent = f"{parent_id:016x}" if parent_id else None
    return ZipkinAttrs(_written(trace_id), f"{span_id:016x}", parent, "0", is_sampled(span))


def _written(trace_id: int) -> str:
    """A trace id as a Zipkin writes it: 64 bits where it has no more."""
    return f"{trace_id:016x}" if trace_id >> 64 == 0 else f"{trace_id:032x}"
