"""What a fork means for a runtime: what stops before, goes on in the parent, resets in the child.

Only the thread that forks lives on in the child, which is another instance of the service. What was
queued is the parent's to send. Locks are :mod:`~heatshield.fork_locks`'s matter.
"""

from time import time_ns

from opentelemetry import trace

from heatshield.counters import COUNTERS, fail_open
from heatshield.service_runtime import Runtime
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span

__all__ = ["after_in_child", "after_in_parent", "before"]


def before(runtime: Runtime | None) -> None:
    """Have no thread of ours while the process forks, as far as they can pause."""
    if runtime is not None:
        runtime.exporter.before_fork()
        runtime.metrics.before_fork()


def after_in_parent(runtime: Runtime | None) -> None:
    """Go on where the threads paused."""
    if runtime is not None:
        runtime.exporter.after_fork_in_parent()
        runtime.metrics.after_fork_in_parent()


@fail_open("fork", None)
def after_in_child(runtime: Runtime | None) -> None:
    """Become another instance, with empty queues and threads of its own when needed."""
    COUNTERS.after_fork()
    if runtime is not None:
        runtime.instance.renew()
        runtime.exporter.after_fork()
        runtime.metrics.after_fork()
        runtime.kill_switch.after_fork()
        runtime.watch.after_fork()
        runtime.reporter.after_fork()
        runtime.table.forget_rejections()
        _leave_spans_to_parent(runtime)


def _leave_spans_to_parent(runtime: Runtime) -> None:
    """The spans that a fork happens in are the parent's to end, though both go on in them."""
    trace_id = trace.get_current_span().get_span_context().trace_id
    forked_ns = time_ns()  # as spans read it, whatever the clock

    def outlet(span: Span) -> None:
        if span.trace_id != trace_id or span.start_time > forked_ns:
            runtime.finished(span)

    PROVIDER.outlet = outlet if trace_id else runtime.finished
