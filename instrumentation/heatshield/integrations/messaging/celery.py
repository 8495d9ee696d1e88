"""Celery, producers and workers: where it is patched, each of its modules as it is imported.

Patches of our own and not OpenTelemetry's signals: a signal can't keep a task from running, and a
producer that doesn't know the task it sends (``send_task``) keeps OpenTelemetry's span as its
current one for ever. ``celery_tasks`` and ``celery_messages`` have the patches.
"""

from functools import wraps
from typing import Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, set_value

from heatshield.context.attachment import attach, detach
from heatshield.integrations.import_hooks import ImportHooks, ImportPatch
from heatshield.integrations.messaging.celery_messages import Publishing
from heatshield.integrations.messaging.celery_tasks import WORKING, retrying
from heatshield.integrations.patches import Original, before
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "celery"

_HOOKS: Final = ImportHooks(NAME)


def install(services: Services) -> None:
    """Patch applications, tasks and workers; replaces an earlier patch."""
    WORKING.install(services)
    publishing, working = Publishing(services), before(services.working)
    _HOOKS.install(
        (
            ImportPatch("celery.app.base", "Celery", "send_task", publishing.sending),
            ImportPatch("celery.app.task", "Task", "retry", retrying),
            ImportPatch("celery.app.trace", "", "build_tracer", WORKING.building),
            ImportPatch("celery.worker.consumer.consumer", "", "build_tracer", WORKING.building),
            ImportPatch("celery.worker.worker", "WorkController", "start", _quietly),
            # Before the pool forks: its children hold what this process knows until they follow.
            ImportPatch("celery.worker.worker", "WorkController", "start", working),
        )
    )
    WORKING.rebuild()


def remove() -> None:
    """Take the patches out again; tracers that were built meanwhile trace nothing any more."""
    _HOOKS.remove()
    WORKING.remove()


def _quietly(original: Original) -> Original:
    """Make no spans of a worker's own talk with its broker: it belongs to no request."""

    @wraps(original)
    def start(worker: object, *args: object, **kwargs: object) -> object:
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return original(worker, *args, **kwargs)
        finally:
            detach(token)

    return start
