"""This process's runtime: what ``instrument()`` begins, and what forks, signals and exits end."""

import atexit
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from heatshield import forks
from heatshield.breakers.gate import GATE
from heatshield.clock import Clock, SystemClock
from heatshield.context.request import call_in, request_in
from heatshield.context.user_scope import UserScope, user_scope
from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_hooks import FORK_HOOKS, in_child
from heatshield.fork_locks import importing, lock
from heatshield.process.sigterm import SigtermHandler
from heatshield.rejection import BreakerOpen
from heatshield.resilience.downstream import DOWNSTREAM
from heatshield.service_runtime import Runtime
from heatshield.settings import ServiceSettings
from heatshield.settings_advice import advice, faults
from heatshield.tracing.joining import settle
from heatshield.tracing.stamp import stamp_user

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Runtime", "begin", "end", "enforce", "flush", "name_user", "process", "status"]


_LOGGER: Final = logging.getLogger("heatshield")


def _export(span: "ReadableSpan") -> None:
    """Export a span of the service's own provider, which may outlive runtimes."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.finished(span)


def _seen(span: trace.Span) -> None:
    """A span of the service's own provider starts."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.seen(span)


class _Running:
    """Holds this process's runtime."""

    def __init__(self) -> None:
        self._lock = lock()
        self._runtime: Runtime | None = None
        self._hooked = False
        self._is_warned = False

    def get(self) -> Runtime | None:
        FORK_HOOKS.notice()
        return self._runtime

    def begin(self, settings: ServiceSettings, clock: Clock) -> None:
        with self._lock:
            if self._runtime is not None:
                return
            runtime = Runtime(settings, clock, begin_export=self._begin_export)
            settle(_export, _seen)
            runtime.install()
            self._runtime = runtime
            if not self._hooked:
                self._hooked = True
                atexit.register(self.end)
                os.register_at_fork(
                    before=self._before_fork,
                    after_in_parent=self._after_fork_in_parent,
                )
                in_child(self._after_fork)

    def _begin_export(self) -> None:
        """Something is to be sent for the first time: now it matters where to."""
        SIGTERM_HANDLER.arm()
        runtime = self._runtime
        if runtime is not None and not self._is_warned:
            self._is_warned = True
            for fault in (*faults(runtime.settings), *runtime.faults):
                _LOGGER.warning("setting of heatshield: %s", fault)

    def end(self) -> None:
        FORK_HOOKS.notice()
        with self._lock:
            runtime = self._runtime
            if runtime is not None:
                runtime.stop()
                self._runtime = None
                SIGTERM_HANDLER.disarm()

    def send_queued(self) -> None:
        runtime = self.get()
        if runtime is not None:
            runtime.shutdown_budget.send()

    @fail_open("fork", None)
    def _before_fork(self) -> None:
        SIGTERM_HANDLER.before_fork()
        forks.before(self._runtime)

    @fail_open("fork", None)
    def _after_fork_in_parent(self) -> None:
        SIGTERM_HANDLER.after_fork_in_parent()
        forks.after_in_parent(self._runtime)

    @fail_open("fork", None)
    def _after_fork(self) -> None:
        SIGTERM_HANDLER.after_fork()
        forks.after_in_child(self._runtime)


_RUNNING: Final = _Running()

SIGTERM_HANDLER: Final = SigtermHandler(_RUNNING.send_queued, SystemClock())
"""This process's, however often it is instrumented."""


def begin(settings: ServiceSettings, clock: Clock | None = None) -> None:
    """Instrument this process; once is enough, more does nothing."""
    _RUNNING.begin(settings, clock or SystemClock())


def end() -> None:
    """Send what is queued and stop."""
    _RUNNING.end()


def flush(timeout_s: float) -> bool:
    """Send what is queued and a snapshot of the metrics; ``False`` if that took longer."""
    runtime = _RUNNING.get()
    return True if runtime is None else runtime.flush(timeout_s)


def enforce(enforcing: bool) -> None:  # noqa: FBT001  # the public function's argument
    """Throw the kill switch, or lift it."""
    runtime = _RUNNING.get()
    if runtime is not None:
        runtime.kill_switch.enforce(enforcing)


def name_user(user: object) -> UserScope:
    """Name the acting user of what runs now; for as long as that lasts, or as a ``with`` block.

    Raises:
        BreakerOpen: if the handler runs already and a breaker is open for this user's call.
    """
    runtime = _RUNNING.get()
    named = None if runtime is None else _name_user(runtime, user)
    if named is None:
        return UserScope()
    scope, refusal = named
    if refusal is not None:
        scope.end()
        raise refusal
    return scope


@fail_open("user", None)
def _name_user(runtime: Runtime, user: object) -> tuple[UserScope, BreakerOpen | None] | None:
    scope = user_scope(runtime.identity, request_in(), user)
    if scope.known_as is None:
        COUNTERS.drop("user_not_acceptable")
        return None
    request = request_in()
    if request is None:
        return None
    stamp_user(trace.get_current_span(), request)
    stamp_user(request.span, request)
    calls = dict.fromkeys([call_in(), request.call])  # in this order, and each is asked for once
    if not request.entered:
        del calls[request.call]
    for call in filter(None, calls):
        refusal = GATE.refusal(call, request.user)
        if refusal is not None:
            refusal.at_call = call == request.call
            return scope, refusal
    return scope, None


def process(message: object) -> AbstractContextManager[None]:
    """A block in which one message of a queue is processed."""
    runtime = _RUNNING.get()
    if runtime is None:
        return nullcontext()
    with importing("heatshield.integrations.messaging.processing"):  # few services have queues
        from heatshield.integrations.messaging.processing import Processing

    return Processing(message, runtime.propagator, runtime.identity)


def status() -> dict[str, object]:
    """The state of this process's heatshield, for finding faults."""
    runtime = _RUNNING.get()
    found: dict[str, object] = {
        "instrumented": runtime is not None,
        "python": sys.version.split()[0],
    }
    if runtime is None:
        return found
    applied = runtime.table.at
    return found | {
        "service": runtime.settings.service,
        "instance": runtime.instance.id,
        "endpoint": runtime.settings.endpoint,
        "enforce": runtime.table.enforce,
        "kill_switch": runtime.kill_switch.status(),
        "integrations": runtime.integrations.states(),
        "advice": list(advice(runtime.settings)),
        "breakers": {
            "applied": str(applied) if applied is not None else None,
            "mode": runtime.table.mode.value,
            "entries": len(runtime.table.entries),
            "would_have_rejected": runtime.table.would_have_rejected(),
        },
        "downstream": DOWNSTREAM.status(),
        "dropped": COUNTERS.dropped,
        "errors": COUNTERS.errors,
    }
