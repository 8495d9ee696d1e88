"""Celery's tasks: a span a run, its user, refusal before its body.

A refused task is revoked and not failed: no error is logged, no errback called, nothing retried.
A caller that waits for its result gets Celery's ``TaskRevokedError`` with the refusal as its text;
a chord that it is part of ends. The same holds for a task that a refusal leaves, of a guard or from
another service.

The patch around the tracer that Celery builds for a task makes the span; the one around the task's
``run`` refuses, as only what is raised in there counts as the task's own.
"""

import math
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Final, Protocol, cast

from celery import states
from celery.exceptions import Ignore
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from heatshield.breakers.gate import GATE
from heatshield.context.attachment import attach, detach
from heatshield.context.request import Request, request_in
from heatshield.counters import fail_open
from heatshield.integrations.messaging.celery_messages import CONTRIB, TRACER
from heatshield.integrations.messaging.job import elements_in
from heatshield.integrations.messaging.received import Receiver
from heatshield.integrations.patches import Original
from heatshield.integrations.services import Services
from heatshield.rejection import TOO_MANY_REQUESTS, BreakerOpen, refusal_in
from heatshield.tracing.failure import fail, mark_rejected, text_of
from heatshield.tracing.stamp import stamp_user
from heatshield.tracing.values import Attributes

__all__ = ["WORKING", "Job", "pause_s", "retrying"]

_OURS: Final = "_heatshield"
"""Attribute of a function: it is one of ours."""

Args = tuple[object, ...]
Kwargs = Mapping[str, object]

_NO_TEXTS: Final[Mapping[str, str]] = {}

EAGER_AT: Final = 6
"""Where ``build_tracer`` takes whether its task is run by its caller."""

Message = Mapping[str, object]
"""What Celery knows of the message that brought a task: its headers and more."""


class _TaskRequest(Protocol):
    """Celery's own request: one run of a task."""

    id: str
    ignore_result: bool | None
    called_directly: bool
    retries: int
    headers: Mapping[str, object] | None

    def get(self, name: str) -> str | int | None: ...


class _Signature(Protocol):
    def apply_async(self, *, headers: Mapping[str, object]) -> object: ...


class _Backend(Protocol):
    def mark_as_revoked(
        self, task_id: str, reason: str, *, request: _TaskRequest, store_result: bool
    ) -> None: ...


class Task(Protocol):
    """What is used of a task."""

    name: str
    run: Original
    request: _TaskRequest
    ignore_result: bool
    backend: _Backend
    throws: Iterable[type[BaseException]]

    def signature_from_request(
        self, request: _TaskRequest, *, countdown: int, retries: int
    ) -> _Signature: ...


class _Outcome(Protocol):
    """How a run ended, as Celery's tracer returns it."""

    state: str
    retval: BaseException


class Job:
    """One run of a task.

    Args:
        task: the task.
        request: what is known of the request that sent it.
        context: that it runs in; ``None`` if OpenTelemetry's own instrumentation makes it.
        span: of the run, if it is ours.

    Attributes:
        begun: its body has begun.
    """

    def __init__(
        self, task: Task, request: Request, context: Context | None, span: Span = INVALID_SPAN
    ) -> None:
        self.task = task
        self.begun = False
        self._request = request
        self._context = context
        self._span = span

    def run(self, function: Original, *args: object) -> object:
        """Run all that Celery does for it, in its context."""
        running = _RUNNING.set(self)
        token = None if self._context is None else attach(self._context)
        try:
            traced = function(*args)
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
        refusal = GATE.refusal(request.call, request.user, request)
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

    @fail_open("celery", False)
    def postpone(self, refusal: BreakerOpen) -> bool:
        """Send a paced user's task back to its queue, to come again when it may be its turn.

        It keeps its id, its retries and what follows it. A worker waits for nobody, and the queue
        holds the line: so often at most, that a task does not wait for ever.
        """
        request = self.task.request
        if refusal.status != TOO_MANY_REQUESTS or request.called_directly:
            return False
        times = int(request.get(POSTPONED) or 0)
        if times >= MOST_POSTPONED:
            return False
        seen = request_in()
        mark_rejected(self._request.span if seen is None else seen.span, refusal.entry_id)
        again = self.task.signature_from_request(
            request, countdown=pause_s(refusal.retry_after_s, times), retries=request.retries
        )
        again.apply_async(headers={**(request.headers or {}), POSTPONED: times + 1})
        return True

    @fail_open("celery", None)
    def _note(self, traced: object) -> None:
        """Write the outcome on the span, from the four things that a tracer returns."""
        info = cast("Sequence[_Outcome | None]", traced)[1]
        if info is None or not self._span.is_recording():
            return
        error = info.retval
        if info.state == states.RETRY:
            self._span.set_attribute(
                "celery.retry.reason", text_of(getattr(error, "exc", None) or error)
            )
        elif info.state == states.FAILURE:
            self._fail(error)

    @fail_open("celery", None)
    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, tuple(self.task.throws)):
            fail(self._span, error)


_RUNNING: Final[ContextVar[Job | None]] = ContextVar("heatshield-job", default=None)


class _Working:
    """Patches tracers; a patched one outlives a runtime, and traces nothing then."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = None

    def install(self, services: Services) -> None:
        self._receiver = Receiver(services.propagator, services.identity)

    def remove(self) -> None:
        self._receiver = None

    def building(self, original: Original) -> Original:
        """A patch of ``build_tracer``."""
        if hasattr(original, _OURS):
            return original  # imported from where it is patched already

        @wraps(original)
        def build_tracer(name: str, task: Task, *args: object, **kwargs: object) -> object:
            eager = kwargs.get("eager", args[EAGER_AT - 2] if len(args) > EAGER_AT - 2 else False)
            if eager or self._receiver is None:
                return original(name, task, *args, **kwargs)
            _guard(task)
            tracer = cast("Original", original(name, task, *args, **kwargs))
            return self._tracing(task, tracer)

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

    def _tracing(self, task: Task, original: Original) -> Original:
        @wraps(original)
        def trace_task(
            uuid: str, args: Args, kwargs: Kwargs, request: Message | None = None
        ) -> object:
            job = self._job(task, uuid, (args, kwargs), request)
            if job is None:
                return original(uuid, args, kwargs, request)
            return job.run(original, uuid, args, kwargs, request)

        return trace_task

    @fail_open("celery", None)
    def _job(
        self, task: Task, uuid: str, given: tuple[Args, Kwargs], message: Message | None
    ) -> Job | None:
        receiver = self._receiver
        if receiver is None:
            return None
        received = receiver.read(_texts(message or {}, receiver.wanted))
        if CONTRIB.active:
            return Job(task, received.request, None)
        # What reads the message comes before, and fails for itself: whatever a producer sends, the
        # task has its span, and is refused to a tripped user.
        attributes, elements = _attributes(task, uuid, message), _elements(*given)
        span, context = received.begin(TRACER, f"celery {task.name}", attributes, elements)
        return Job(task, received.request, context, span)


WORKING: Final = _Working()


@fail_open("celery", _NO_TEXTS)
def _texts(message: Message, wanted: frozenset[str]) -> Mapping[str, str]:
    """Those headers of a message that are looked at, by lower-case names."""
    named = ((name.lower(), value) for name, value in message.items() if isinstance(name, str))
    return {name: str(value) for name, value in named if name in wanted}


def _attributes(task: Task, uuid: str, message: Message | None) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.message.id": uuid,
        "celery.task_name": task.name,
    }
    _note_delivery(attributes, message or {})
    return attributes


@fail_open("celery", None)
def _note_delivery(attributes: Attributes, message: Message) -> None:
    delivery = message.get("delivery_info")
    queue = delivery.get("routing_key") if isinstance(delivery, Mapping) else None
    if queue:
        attributes["messaging.destination.name"] = str(queue)
    retries = message.get("retries")
    if isinstance(retries, int) and retries:
        attributes["celery.retries"] = retries


@fail_open("celery", 0)
def _elements(args: Args, kwargs: Kwargs) -> int:
    """How many elements a task gets to work on: the members of its arguments that are lists."""
    return elements_in(*args, *kwargs.values())


# -- refusals --------------------------------------------------------------------------------------


def _guard(task: Task) -> None:
    """Patch the body of a task: it may be refused, and a refusal that leaves it is no failure."""
    run = task.run
    if hasattr(run, _OURS):
        return

    @wraps(run)
    def guarded(*args: object, **kwargs: object) -> object:
        job = _RUNNING.get()
        if job is None or job.task is not task or job.begun:
            return run(*args, **kwargs)  # called, not sent: it is part of its caller's work
        refusal = job.refusal()
        before = refusal is not None  # else some of its work is done
        if refusal is None:
            try:
                return run(*args, **kwargs)
            except Exception as error:
                refusal = refusal_in(error)
                if refusal is None:
                    raise
        if not (before and job.postpone(refusal)):
            job.refuse(refusal)
        raise Ignore(str(refusal))

    setattr(guarded, _OURS, True)
    task.run = guarded


def retrying(original: Original) -> Original:
    """A patch of ``Task.retry``, which ``autoretry_for`` calls too: a refusal is not retried."""

    @wraps(original)
    def retry(task: Task, *args: object, **kwargs: object) -> object:
        refusal = _refusal_behind(task, args, kwargs)
        if refusal is not None:
            raise refusal
        return original(task, *args, **kwargs)

    return retry


POSTPONED: Final = "heatshield-postponed"
"""Header of a task: how often it was sent back because its user is paced."""

MOST_POSTPONED: Final = 20
"""Times that a task is sent back; then it is revoked, as one of a user who is refused."""

MOST_PAUSE_S: Final = 60
"""More seconds that a task that was sent back often stays away, at most: quarter of an hour in all,
as long as a breaker is held without a person."""


def pause_s(retry_after_s: float, times: int, chance: Callable[[], float] = random.random) -> int:
    """Seconds for which a task is sent back.

    A user who has queued a thousand would have them all come each second, and all but one go back;
    so they stay away for longer each time, and do not come together.

    Args:
        retry_after_s: until it may be its turn.
        times: that it was sent back before.
        chance: uniform random numbers in [0, 1).
    """
    return math.ceil(retry_after_s + chance() * min((1 << times) - 1, MOST_PAUSE_S))


EXC_AT: Final = 2
"""Where ``Task.retry`` takes the exception because of which it is called."""


@fail_open("celery", None)
def _refusal_behind(task: Task, args: Args, kwargs: Kwargs) -> BreakerOpen | None:
    if task.request.called_directly:
        return None  # Celery raises the cause itself then
    given = args[EXC_AT] if len(args) > EXC_AT else kwargs.get("exc")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1]
    return None if error is None else refusal_in(error)
