"""RQ: trace and user travel with a job; each run is a call; a refused one is stopped.

The headers are a field of the job's hash in Redis beside RQ's own, which ignores it, so that
``job.meta`` is what the service has put there. A job that its queue runs at once
(``is_async=False``) is part of its caller's work.

A refused job is **stopped** and not failed: no error is logged, no handler called, nothing retried.
It stands in the registry of failed jobs with the refusal as its text, to be requeued or not.

A worker that forks a process for each job asks before it forks: what is refused, and what a
trickle lets through, is counted in the one process that goes on. The child holds the table as it
was then.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Final, Protocol, cast

from heatshield.counters import fail_open
from heatshield.fork_hooks import FORK_HOOKS
from heatshield.integrations.messaging.job import Jobs, Quietly, Run, Verdict, elements_in
from heatshield.integrations.patches import Original, Patches, before
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "rq"

FIELD: Final = "heatshield"
"""Of a job's hash in Redis: its headers, as JSON."""

_HEADERS: Final = "_heatshield_headers"
_FETCHED: Final = "_heatshield_fetched"
_REFUSED: Final = "_heatshield_refused"
_VERDICT: Final = "_heatshield_verdict"
"""Attributes of a job: what it carries, whether it comes from Redis, whether it was refused; and
whether it may run, if that was asked before the fork."""

_PATCHES: Final = Patches()


class _Job(Protocol):
    """What is used of a job."""

    id: str
    origin: str
    func_name: str | None
    args: Iterable[object]
    kwargs: Mapping[str, object]
    meta: Mapping[str, object]
    retries_left: int | None


class _Queue(Protocol):
    """What is used of a queue."""

    name: str
    _is_async: bool


def install(services: Services) -> None:
    """Patch jobs, queues and workers; replaces an earlier patch.

    Raises:
        ImportError: if RQ is not installed.
    """
    from rq.job import Job
    from rq.queue import Queue
    from rq.worker import Worker

    _PATCHES.undo()
    jobs = Jobs(NAME, services)
    _PATCHES.wrap(Job, "to_dict", _saving(jobs))
    _PATCHES.wrap(Job, "restore", _restoring)
    _PATCHES.wrap(Job, "perform", _performing(jobs))
    _PATCHES.wrap(Queue, "enqueue_job", _enqueueing(jobs))
    _PATCHES.wrap(Queue, "enqueue_many", _enqueueing_many(jobs))
    for name, wrapper in (
        ("__init__", _quietly),
        ("work", _quietly),
        ("work", before(services.working)),
        ("main_work_horse", _quietly),
        ("main_work_horse", before(_unless_forked(services.working))),
        ("perform_job", _flushing(services.flush)),
        ("handle_exception", _handling),
        ("handle_job_failure", _failing),
    ):
        for owner in Worker.__mro__[:-1]:  # a method's class differs between versions
            _PATCHES.wrap(owner, name, wrapper)
    _PATCHES.wrap(Worker, "fork_work_horse", _forking(jobs))  # SpawnWorker has one of its own


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


# -- sending ---------------------------------------------------------------------------------------


def _enqueueing(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def enqueue_job(self: _Queue, job: _Job, *args: object, **kwargs: object) -> object:
            if not getattr(self, "_is_async", True) or hasattr(job, _FETCHED):
                return original(self, job, *args, **kwargs)
            with jobs.sending(_name(job), self.name):
                return original(self, job, *args, **kwargs)

        return enqueue_job

    return wrap


def _enqueueing_many(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def enqueue_many(
            self: _Queue, job_datas: Iterable[object], *args: object, **kwargs: object
        ) -> object:
            if not getattr(self, "_is_async", True):
                return original(self, job_datas, *args, **kwargs)
            job_datas = list(job_datas)
            with jobs.sending("many", self.name, len(job_datas)):
                return original(self, job_datas, *args, **kwargs)

        return enqueue_many

    return wrap


def _saving(jobs: Jobs) -> Callable[[Original], Original]:
    """Have a job carry the headers of where it is saved first."""

    def wrap(original: Original) -> Original:
        @wraps(original)
        def to_dict(self: _Job, *args: object, **kwargs: object) -> object:
            fields = original(self, *args, **kwargs)
            headers = vars(self).get(_HEADERS)
            if headers is None and not hasattr(self, _FETCHED):
                headers = vars(self)[_HEADERS] = jobs.headers() or {}
            if headers and isinstance(fields, dict):
                fields[FIELD] = json.dumps(headers)
            return fields

        return to_dict

    return wrap


# -- working ---------------------------------------------------------------------------------------


def _restoring(original: Original) -> Original:
    @wraps(original)
    def restore(self: _Job, raw_data: Mapping[Any, Any], *args: object, **kwargs: object) -> object:
        answer = original(self, raw_data, *args, **kwargs)
        _take_headers(self, raw_data)
        return answer

    return restore


@fail_open("rq", None)
def _take_headers(job: _Job, raw_data: Mapping[Any, Any]) -> None:
    own = vars(job)
    if _HEADERS in own and _FETCHED not in own:
        return  # made here, and only looked at once more
    own[_FETCHED] = True
    written = raw_data.get(FIELD.encode()) or raw_data.get(FIELD)
    found = json.loads(written) if written else {}
    if isinstance(found, dict):
        own[_HEADERS] = {str(name): str(value) for name, value in found.items()}


def _performing(jobs: Jobs) -> Callable[[Original], Original]:
    def wrap(original: Original) -> Original:
        @wraps(original)
        def perform(self: _Job) -> object:
            run = _run(jobs, self)
            if run is None:
                return original(self)
            try:
                with run:
                    return original(self)
            finally:
                if run.refused is not None:
                    vars(self)[_REFUSED] = True

        return perform

    return wrap


@fail_open("rq", None)
def _run(jobs: Jobs, job: _Job) -> Run | None:
    if not hasattr(job, _FETCHED):
        return None  # run by its caller
    return jobs.run(
        _name(job),
        _headers(jobs, job),
        queue=job.origin,
        job_id=job.id,
        elements=elements_in(*job.args, *job.kwargs.values()),
        verdict=vars(job).pop(_VERDICT, None),
    )


def _headers(jobs: Jobs, job: _Job) -> Mapping[str, str]:
    meta = job.meta if isinstance(job.meta, Mapping) else {}
    named = {name: str(meta[name]) for name in jobs.named if name in meta}
    return {**named, **cast("Mapping[str, str]", vars(job).get(_HEADERS, {}))}


def _name(job: _Job) -> str:
    try:
        return job.func_name or "job"
    except Exception:  # noqa: BLE001  # it can't be deserialized, which RQ will say
        return "job"


def _quietly(original: Original) -> Original:
    @wraps(original)
    def followed(*args: object, **kwargs: object) -> object:
        with Quietly():
            return original(*args, **kwargs)

    return followed


def _flushing(flush: Callable[[], object]) -> Callable[[Original], Original]:
    """Send what a job has left before its process ends, which it does without exit handlers."""

    def wrap(original: Original) -> Original:
        @wraps(original)
        def perform_job(self: object, *args: object, **kwargs: object) -> object:
            try:
                return original(self, *args, **kwargs)
            finally:
                if getattr(self, "_is_horse", False):
                    flush()

        return perform_job

    return wrap


# -- refusals --------------------------------------------------------------------------------------


def _forking(jobs: Jobs) -> Callable[[Original], Original]:
    """Ask whether a job may run before the process is forked that it runs in."""

    def wrap(original: Original) -> Original:
        @wraps(original)
        def fork_work_horse(self: object, job: _Job, *args: object, **kwargs: object) -> object:
            verdict = _verdict(jobs, job)
            if verdict is not None:
                vars(job)[_VERDICT] = verdict
            return original(self, job, *args, **kwargs)

        return fork_work_horse

    return wrap


@fail_open("rq", None)
def _verdict(jobs: Jobs, job: _Job) -> Verdict | None:
    return jobs.verdict(_name(job), _headers(jobs, job)) if hasattr(job, _FETCHED) else None


def _unless_forked(working: Callable[[], object]) -> Callable[[], object]:
    """A process that was forked for one job knows what its worker knows, and asks nobody."""
    return lambda: None if FORK_HOOKS.was_forked else working()


def _handling(original: Original) -> Original:
    @wraps(original)
    def handle_exception(self: object, job: _Job, *exc_info: object) -> object:
        if hasattr(job, _REFUSED):
            return None
        return original(self, job, *exc_info)

    return handle_exception


def _failing(original: Original) -> Original:
    @wraps(original)
    def handle_job_failure(self: Any, job: _Job, *args: object, **kwargs: object) -> object:
        if hasattr(job, _REFUSED):
            vars(job).pop(_REFUSED)
            self._stopped_job_id = job.id  # as if it had been stopped by command
        return original(self, job, *args, **kwargs)

    return handle_job_failure
