"""A job of a queue: the span of sending it, and its run, a call of its own for its sender's user.

What is the same in all libraries of jobs. Each has a file of its own, which says where the headers
of a job travel and what becomes of one that is refused.
"""

from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, NamedTuple

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current, set_value
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, set_span_in_context

from heatshield.breakers.gate import GATE
from heatshield.context.attachment import attach, detach
from heatshield.context.request import Request
from heatshield.counters import fail_open
from heatshield.integrations.messaging.received import Receiver
from heatshield.integrations.services import Services
from heatshield.rejection import BreakerOpen, refusal_in
from heatshield.tracing.failure import fail, mark_rejected
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.stamp import add_cost
from heatshield.tracing.values import Attributes

__all__ = ["Jobs", "Quietly", "Run", "Sending", "Verdict", "elements_in"]


class Sending:
    """The span of putting jobs into a queue, as a context manager; never raises by itself."""

    __slots__ = ("_context", "_span", "_token")

    def __init__(self, span: Span = INVALID_SPAN, context: Context | None = None) -> None:
        self._span = span
        self._context = context
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        if self._context is not None:
            self._token = attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)
        _finish(self._span, error)


class Verdict(NamedTuple):
    """Whether a job may run, as it was decided and counted.

    Attributes:
        refusal: why not; ``None`` lets it run.
    """

    refusal: BreakerOpen | None


class Run:
    """One run of a job, as a context manager.

    Args:
        request: of the job.
        span: of the run.
        context: that the job runs in.
        verdict: on its call, where that was asked for before.

    Attributes:
        refused: why its body did not begin, or what refusal has left it.

    Raises, on entering:
        BreakerOpen: if the call is tripped for the job's user.
    """

    __slots__ = ("_context", "_request", "_span", "_token", "_verdict", "refused")

    def __init__(
        self, request: Request, span: Span, context: Context, verdict: Verdict | None = None
    ) -> None:
        self._request, self._span, self._context = request, span, context
        self._verdict = verdict
        self._token: Token[Context] | None = None
        self.refused: BreakerOpen | None = None

    def __enter__(self) -> None:
        self._token = attach(self._context)
        refusal = self._refusal()
        if refusal is not None:
            self.__exit__(type(refusal), refusal, None)
            raise refusal

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)
        if error is not None:
            self.refused = refusal_in(error)
        _finish(self._span, error)

    @fail_open("jobs", None)
    def _refusal(self) -> BreakerOpen | None:
        request = self._request
        if self._verdict is None:
            refusal = GATE.refusal(request.call, request.user, request)
        else:
            refusal = self._verdict.refusal
        request.entered = refusal is None
        if refusal is not None:
            mark_rejected(self._span, refusal.entry_id)
        return refusal


class Quietly:
    """Makes no spans of a worker's own talk with its broker: it belongs to no request."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        self._token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))

    def __exit__(self, *_: object) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)


class Jobs:
    """Opens the spans of one library's jobs.

    Args:
        system: the library, as in the names of its calls.
        services: of the runtime.
    """

    def __init__(self, system: str, services: Services) -> None:
        self._system = system
        self._tracer: Final = PROVIDER.get_tracer(f"heatshield.{system}")
        self._propagator = services.propagator
        self._receiver = Receiver(services.propagator, services.identity)
        self.named = self._receiver.named
        """Lower-case names under which the settings expect a user."""

    @fail_open("jobs", Sending())
    def sending(self, name: str, queue: str = "", elements: int = 0) -> Sending:
        """The span of sending.

        Args:
            name: of the function that is to run.
            queue: that it is put into.
            elements: jobs, where they are many.
        """
        context = get_current()
        if context.get(_SUPPRESS_INSTRUMENTATION_KEY):
            return Sending()
        attributes = self._attributes("send", name, queue)
        span = self._tracer.open(f"publish {name}", SpanKind.PRODUCER, attributes, context)
        if elements:
            add_cost(elements=elements, span=span)
        return Sending(span, set_span_in_context(span, context))

    @fail_open("jobs", None)
    def headers(self) -> dict[str, str] | None:
        """What a job must carry from here; empty where nothing runs."""
        return self._propagator.headers(get_current())

    @fail_open("jobs", None)
    def verdict(self, name: str, headers: Mapping[str, str]) -> Verdict | None:
        """Whether a job may run, asked before the process that it would run in is forked.

        Args:
            name: of its function.
            headers: as :meth:`run` takes them.
        """
        call = self._call(name)
        if not GATE.watches(call):
            return None
        return Verdict(GATE.refusal(call, self._receiver.read(headers).request.user))

    @fail_open("jobs", None)
    def run(
        self,
        name: str,
        headers: Mapping[str, str],
        *,
        queue: str = "",
        job_id: str = "",
        elements: int = 0,
        verdict: Verdict | None = None,
    ) -> Run | None:
        """The run of a job; ``None`` runs it unseen.

        Args:
            name: of its function; low cardinality.
            headers: by lower-case names: what :meth:`headers` gave, and what the service has put
                there itself under one of :attr:`named`.
            queue: that it came from.
            job_id: its own.
            elements: that it works on.
            verdict: what :meth:`verdict` has said of it.
        """
        attributes = self._attributes("process", name, queue)
        if job_id:
            attributes["messaging.message.id"] = job_id
        received = self._receiver.read(headers)
        span, context = received.begin(self._tracer, self._call(name), attributes, elements)
        return Run(received.request, span, context, verdict)

    def _call(self, name: str) -> str:
        return f"{self._system} {name}"

    def _attributes(self, operation: str, name: str, queue: str) -> Attributes:
        attributes: Attributes = {
            "messaging.system": self._system,
            "messaging.operation.type": operation,
            "code.function.name": name,
        }
        if queue:
            attributes["messaging.destination.name"] = queue
        return attributes


def elements_in(*arguments: object) -> int:
    """How many elements a job gets to work on: the members of its arguments that are lists."""
    return sum(len(each) for each in arguments if isinstance(each, list | tuple | set | frozenset))


@fail_open("jobs", None)
def _finish(span: Span, error: BaseException | None) -> None:
    try:
        if isinstance(error, Exception):
            fail(span, error)
    finally:
        span.end()
