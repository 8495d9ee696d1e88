"""Celery's tasks: a span a run, its user, refusal before its body.

A refused task is revoked and not failed: no error is logged, no errback called, nothing retried.
Whoever waits for its result gets Celery's ``TaskRevokedError`` with the refusal in words; a chord
that it is part of ends. So it is with a task that a refusal leaves, of a guard or from another
service.

The tracer that Celery builds for a task is surrounded for the span, and the task's ``run`` for the
refusal, as only what is raised in there counts as the task's own.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final

from celery import states
from celery.exceptions import Ignore
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, set_span_in_context

from heatshield.breakers.gate import GATE
from heatshield.context.propagator import HEADERS
from heatshield.context.request import Request, request_in
from heatshield.counters import fail_open
from heatshield.integrations.messaging.celery_messages import TRACER, has_theirs
from heatshield.integrations.services import Services
from heatshield.rejection import BreakerOpen, refusal_in
from heatshield.tracing.failure import fail, mark_rejected
from heatshield.tracing.stamp import add_cost, stamp_user

__all__ = ["WORKING", "Job", "retrying"]

_OURS: Final = "_heatshield"
"""Attribute of a function: it is one of ours."""

EAGER_AT: Final = 6
"""Where ``build_tracer`` takes whether its task is run by its caller."""

Function = Callable[..., Any]


class Job:
    """One run of a task.

    Args:
        task: which.
        request: what is known of the request that sent it.
        context: that it runs in; ``None`` if OpenTelemetry's own instrumentation makes that.
        span: of the run, if it is ours.

    Attributes:
        begun: its body has begun.
    """

    def __init__(
        self, task: Any, request: Request, context: Context | None, span: Span = INVALID_SPAN
    ) -> None:
        self.task = task
        self.begun = False
        self._request = request
        self._context = context
        self._span = span

    def run(self, function: Function, *args: Any, **kwargs: Any) -> Any:
        """Run all that Celery does for it, in its context."""
        running = _RUNNING.set(self)
        token = None if self._context is None else attach(self._context)
        try:
            traced = function(*args, **kwargs)
        except BaseException as error:
            self._fail(error)
            raise
        else:
            self._note(traced)
            return traced
        finally:
            if token is not None:
                detach(token)
            _RUNNING.reset(running)
            self._span.end()

    @fail_open("celery", None)
    def refusal(self) -> BreakerOpen | None:
        """The refusal of its body; ``None`` lets it begin."""
        self.begun = True
        seen, request = self._request, self._request
        if self._context is None:
            request = request_in() or seen
            if seen.user is not None and request.user is None:
                request.user, request.source = seen.user, seen.source
                request.raw_user, request.aliases = seen.raw_user, seen.aliases
                stamp_user(request.span, request)
        refusal = GATE.refusal(request.call, request.user)
        request.entered = refusal is None
        return refusal

    @fail_open("celery", None)
    def refuse(self, refusal: BreakerOpen) -> None:
        """Revoke it."""
        request = request_in()
        mark_rejected(self._request.span if request is None else request.span, refusal.entry_id)
        celery_request = self.task.request
        ignored = celery_request.ignore_result
        ignored = self.task.ignore_result if ignored is None else ignored
        self.task.backend.mark_as_revoked(
            celery_request.id, str(refusal), request=celery_request, store_result=not ignored
        )

    @fail_open("celery", None)
    def _note(self, traced: Any) -> None:
        """Say how it went, from the four things that a tracer returns."""
        info = traced[1]
        if info is None or not self._span.is_recording():
            return
        error = info.retval
        if info.state == states.RETRY:
            self._span.set_attribute("celery.retry.reason", str(getattr(error, "exc", error)))
        elif info.state == states.FAILURE:
            self._fail(error)

    @fail_open("celery", None)
    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, tuple(self.task.throws)):
            fail(self._span, error)


_RUNNING: Final[ContextVar[Job | None]] = ContextVar("heatshield-job", default=None)


class _Working:
    """Surrounds tracers; what it has built outlives a runtime, and then does nothing."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._wanted: frozenset[str] = frozenset()

    def install(self, services: Services) -> None:
        named = (name.decode("latin-1") for name in services.identity.headers)
        self._wanted = frozenset((*HEADERS, *named))
        self._services = services

    def remove(self) -> None:
        self._services = None

    def building(self, original: Function) -> Function:
        """Around ``build_tracer``."""
        if hasattr(original, _OURS):
            return original  # imported from where it is patched already

        @wraps(original)
        def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Any:
            eager = kwargs.get("eager", args[EAGER_AT - 2] if len(args) > EAGER_AT - 2 else False)
            if eager or self._services is None:
                return original(name, task, *args, **kwargs)
            _guard(task)
            return self._tracing(task, original(name, task, *args, **kwargs))

        setattr(build_tracer, _OURS, True)
        return build_tracer

    def rebuild(self) -> None:
        """Build anew the tracers that a worker has built before it was instrumented."""
        module = sys.modules.get("celery.app.trace")
        if module is None:
            return
        from celery._state import _get_active_apps

        for app in _get_active_apps():
            for name, task in getattr(app, "_tasks", {}).items():
                if getattr(task, "__trace__", None) is not None:
                    task.__trace__ = module.build_tracer(name, task, app.loader, app=app)

    def _tracing(self, task: Any, original: Function) -> Function:
        @wraps(original)
        def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
            job = self._job(task, uuid, (args, kwargs), request)
            if job is None:
                return original(uuid, args, kwargs, request)
            return job.run(original, uuid, args, kwargs, request)

        return trace_task

    @fail_open("celery", None)
    def _job(self, task: Any, uuid: str, given: tuple[Any, Any], message: Any) -> Job | None:
        services = self._services
        if services is None:
            return None
        wanted = self._wanted
        headers = {n.lower(): str(v) for n, v in (message or {}).items() if n.lower() in wanted}
        inbound = services.propagator.read(headers.get)
        request = inbound.request()
        if services.identity.headers:
            named = {n.encode(): v.encode("utf-8", "replace") for n, v in headers.items()}
            services.identity.on_entry(request, named)
        if has_theirs():
            return Job(task, request, None)
        # Not on top of the current context: that is the worker's.
        context = inbound.context(request, Context())
        call = f"celery {task.name}"
        span = TRACER.open(call, SpanKind.CONSUMER, _attributes(task, uuid, message), context)
        request.enter(call, span)
        stamp_user(span, request)
        add_cost(elements=_elements(*given), span=span)
        return Job(task, request, set_span_in_context(span, context), span)


WORKING: Final = _Working()


def _attributes(task: Any, uuid: str, message: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.message.id": uuid,
        "celery.task_name": task.name,
    }
    queue = ((message or {}).get("delivery_info") or {}).get("routing_key")
    if queue:
        attributes["messaging.destination.name"] = str(queue)
    retries = (message or {}).get("retries")
    if retries:
        attributes["celery.retries"] = int(retries)
    return attributes


def _elements(args: Any, kwargs: Any) -> int:
    """How many things a task is given to work on: the members of its arguments that are lists."""
    values = (*args, *kwargs.values())
    return sum(len(value) for value in values if isinstance(value, list | tuple | set | frozenset))


# -- refusals --------------------------------------------------------------------------------------


def _guard(task: Any) -> None:
    """Have the body of a task refused, and what a refusal leaves not taken for a failure."""
    run = task.run
    if hasattr(run, _OURS):
        return

    @wraps(run)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        job = _RUNNING.get()
        if job is None or job.task is not task or job.begun:
            return run(*args, **kwargs)  # called, not sent: it is part of whatever calls it
        refusal = job.refusal()
        if refusal is None:
            try:
                return run(*args, **kwargs)
            except Exception as error:
                refusal = refusal_in(error)
                if refusal is None:
                    raise
        job.refuse(refusal)
        raise Ignore(str(refusal))

    setattr(guarded, _OURS, True)
    task.run = guarded


def retrying(original: Function) -> Function:
    """Around ``Task.retry``, which ``autoretry_for`` calls too: a refusal is not retried."""

    @wraps(original)
    def retry(task: Any, *args: Any, **kwargs: Any) -> Any:
        refusal = _refusal_behind(task, args, kwargs)
        if refusal is not None:
            raise refusal
        return original(task, *args, **kwargs)

    return retry


EXC_AT: Final = 2
"""Where ``Task.retry`` takes the exception because of which it is called."""


@fail_open("celery", None)
def _refusal_behind(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BreakerOpen | None:
    if task.request.called_directly:
        return None  # Celery raises what is behind it, then
    given = args[EXC_AT] if len(args) > EXC_AT else kwargs.get("exc")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    return None if error is None else refusal_in(error)
