"""RQ on a real Redis: enqueueing, working, users, refusals; in a process and in forked ones."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis
import rq.worker
import rq_jobs
from opentelemetry.trace import SpanKind, StatusCode
from rq import Queue, Retry, SimpleWorker
from rq.job import Job

import heatshield
from heatshield.names import CALL, COST_ELEMENTS, ENDUSER_ID, REJECTED

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def queue(port):
    connection = redis.Redis(port=port)
    connection.flushall()
    rq_jobs.SEEN.clear()
    return Queue("jobs", connection=connection)


@pytest.fixture
def work(queue):
    """Work until the queues are empty, in this process."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def burst(*queues, **options):
        queues = queues or (queue,)
        worker = SimpleWorker(queues, connection=queue.connection, **options)
        worker.work(burst=True, logging_level="CRITICAL")

    yield burst
    for number, handler in kept.items():
        signal.signal(number, handler)
    logging.getLogger("rq.worker").setLevel(logging.NOTSET)


def named(spans, name):
    return [span for span in spans if span.name == name]


def test_a_job_is_one_trace_with_its_user(service, queue, port, work):
    made = service()
    with heatshield.user("u-1"), heatshield.guard("checkout"):
        job = queue.enqueue(rq_jobs.export, ["hat", "cap"], port=port)
    work()
    assert rq_jobs.SEEN == ["u-1"]
    assert job.latest_result().return_value == 2
    (sent,), (run,) = (
        named(made.spans, "publish rq_jobs.export"),
        named(made.spans, "rq rq_jobs.export"),
    )
    (sadd,) = named(made.spans, "SADD")
    assert (sent.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert run.parent.span_id == sent.context.span_id
    assert sadd.parent.span_id == run.context.span_id
    assert sent.trace_id == made.span("checkout").trace_id
    assert run.attributes[CALL] == sadd.attributes[CALL] == "rq rq_jobs.export"
    assert run.attributes[ENDUSER_ID] == sadd.attributes[ENDUSER_ID] == "u-1"
    assert run.attributes[COST_ELEMENTS] == 2
    assert run.attributes["messaging.message.id"] == job.id
    assert run.attributes["messaging.destination.name"] == "jobs"


def test_a_worker_s_own_talk_with_redis_makes_no_spans(service, queue, work):
    made = service()
    work()
    assert [span.name for span in made.spans] == []


def test_the_service_s_own_parts_of_a_job_are_as_they_were(service, queue, work):
    service()
    meta = {"shop": 1}
    with heatshield.user("u-1"):
        job = queue.enqueue(rq_jobs.export, ["hat"], meta=meta, job_id="own")
    assert meta == job.meta == {"shop": 1}
    assert Job.fetch("own", queue.connection).meta == {"shop": 1}
    work()
    again = Job.fetch("own", queue.connection)
    again.meta["shop"] = 2
    again.save()
    assert Job.fetch("own", queue.connection).meta == {"shop": 2}
    kept = json.loads(queue.connection.hget("rq:job:own", "heatshield"))
    assert "u-1" in kept["baggage"]


def test_a_worker_without_heatshield_runs_what_one_with_it_has_sent(service, queue, work):
    from heatshield import runtime

    service()
    with heatshield.user("u-1"):
        queue.enqueue(rq_jobs.export, ["hat"])
    runtime.end()
    work()
    assert rq_jobs.SEEN == [None]


def test_a_user_stands_in_meta_where_the_settings_say_so(service, queue, work):
    """As a producer without heatshield can write it."""
    made = service(user_header="x-user-id")
    queue.enqueue(rq_jobs.export, ["hat"], meta={"x-user-id": "u-7"})
    work()
    (run,) = named(made.spans, "rq rq_jobs.export")
    assert rq_jobs.SEEN == [run.attributes[ENDUSER_ID]] == ["u-7"]


def test_jobs_that_are_sent_at_once_have_one_span_of_sending(service, queue, work):
    made = service()
    with heatshield.user("u-1"):
        datas = (Queue.prepare_data(rq_jobs.export, ([n],)) for n in ("a", "b"))
        queue.enqueue_many(datas)
    work()
    (sent,) = named(made.spans, "publish many")
    runs = named(made.spans, "rq rq_jobs.export")
    assert sent.attributes[COST_ELEMENTS] == 2
    assert [run.parent.span_id for run in runs] == [sent.context.span_id] * 2
    assert rq_jobs.SEEN == ["u-1", "u-1"]


def test_a_job_of_a_job_is_of_the_same_trace_and_user(service, queue, port, work):
    made = service()
    with heatshield.user("u-1"):
        queue.enqueue(rq_jobs.enqueueing, port)
    work(queue, Queue("second", connection=queue.connection))
    (first,), (second,) = (
        named(made.spans, name) for name in ("rq rq_jobs.enqueueing", "rq rq_jobs.export")
    )
    assert first.trace_id == second.trace_id
    assert rq_jobs.SEEN == ["u-1"]


def test_a_job_that_waits_for_another_keeps_its_sender(service, queue, work):
    service()
    with heatshield.user("u-1"):
        first = queue.enqueue(rq_jobs.export, ["hat"])
    with heatshield.user("u-2"):
        queue.enqueue(rq_jobs.export, ["cap"], depends_on=first)
    work()
    assert rq_jobs.SEEN == ["u-1", "u-2"]


def test_an_asynchronous_function_is_run_for_its_user(service, queue, work):
    service()
    with heatshield.user("u-1"):
        queue.enqueue(rq_jobs.slowly)
    work()
    assert rq_jobs.SEEN == ["u-1"]


def test_a_failure_is_one_of_the_span_and_is_retried(service, queue, work):
    made = service()
    with heatshield.user("u-1"):
        queue.enqueue(rq_jobs.failing, retry=Retry(max=1))
    work()
    runs = named(made.spans, "rq rq_jobs.failing")
    assert [run.status.status_code for run in runs] == [StatusCode.ERROR] * 2
    assert {run.attributes["error.type"] for run in runs} == {"LookupError"}
    assert len({run.trace_id for run in runs}) == 1


def test_a_queue_that_runs_its_jobs_at_once_is_its_caller_s_work(service, port):
    made = service()
    rq_jobs.SEEN.clear()
    queue = Queue("now", connection=redis.Redis(port=port), is_async=False)
    with heatshield.user("u-1"), heatshield.guard("checkout"):
        queue.enqueue(rq_jobs.export, ["hat"], port=port)
    assert rq_jobs.SEEN == ["u-1"]
    (sadd,) = named(made.spans, "SADD")
    assert sadd.attributes[CALL] == "checkout"
    assert not named(made.spans, "rq rq_jobs.export")


@pytest.mark.parametrize(
    ("function", "call"),
    [(rq_jobs.export, "rq rq_jobs.export"), (rq_jobs.guarded, "export.rows")],
)
def test_a_refused_job_is_stopped_and_neither_failed_nor_retried(
    service, queue, work, caplog, function, call
):
    made = service()
    entry = made.trip("u-1", call)
    handled = []
    arguments = (["hat"],) if function is rq_jobs.export else ()
    with heatshield.user("u-1"):
        job = queue.enqueue(function, *arguments, retry=Retry(max=3))
    with heatshield.user("u-2"):
        queue.enqueue(function, *arguments)
    work(exception_handlers=[lambda *all_of_it: handled.append(all_of_it)])
    assert [["u-2"], ["rows"]][function is rq_jobs.guarded] == rq_jobs.SEEN
    assert job.get_status() == "stopped"
    assert "BreakerOpen" in job.latest_result().exc_string
    assert not handled
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    (refused, ran) = named(made.spans, f"rq rq_jobs.{function.__name__}")
    assert refused.attributes[REJECTED] == entry
    assert refused.status.status_code is StatusCode.UNSET
    assert REJECTED not in ran.attributes


WORKER = """
import sys
import heatshield
heatshield.instrument("worker")
import redis
from rq import Queue, worker
sys.path.insert(0, {peers!r})
connection = redis.Redis(port={port})
made = worker.{worker}([Queue("jobs", connection=connection)], connection=connection)
made.work(burst=True)
heatshield.shutdown()
"""


@pytest.fixture
def run_worker(port, run_python):
    """Have a worker of RQ's, in a process of its own, do all jobs there are."""
    peers = str(rq_jobs.__file__).rpartition("/")[0]

    def run(worker="Worker"):
        done = run_python(WORKER.format(peers=peers, port=port, worker=worker))
        assert done.returncode == 0, done.stderr

    return run


def test_a_forked_worker_sends_the_spans_of_its_jobs(service, queue, port, run_worker, collector):
    """Each job has a process of its own, which ends without exit handlers."""
    service()
    with heatshield.user("u-1"):
        for number in range(3):
            queue.enqueue(rq_jobs.export, [str(number)], port=port)
    run_worker()
    names = [span.name for _, span in collector.spans]
    assert sorted(set(names)) == ["SADD", "rq rq_jobs.export"]
    assert names.count("rq rq_jobs.export") == 3


def counted(collector):
    """Refusals that were reported, by their entry."""
    found = Counter()
    for _, report in collector.reports:
        for row in report.get("rejected", ()):
            found[row["id"]] += row["count"]
    return found


@pytest.mark.parametrize("worker", ["Worker", "SimpleWorker"])
def test_a_worker_refuses_from_its_first_job_on_and_reports_each_refusal(
    service, queue, run_worker, collector, worker
):
    """Also where each job has a process of its own, which lives for a few milliseconds."""
    service()
    calls = ("rq rq_jobs.export", "export.rows")
    entries = [collector.grant("u-1", call, service="worker") for call in calls]
    jobs = []
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            jobs += [queue.enqueue(rq_jobs.export, ["hat"]) for _ in range(3)]
            jobs += [queue.enqueue(rq_jobs.guarded) for _ in range(2)]
    run_worker(worker)
    assert [job.get_status() for job in jobs] == ["stopped"] * 5 + ["finished"] * 5
    assert counted(collector) == dict(zip(entries, (3, 2), strict=True))


def test_a_trickle_is_one_for_all_processes_that_a_worker_forks(
    service, queue, run_worker, collector
):
    service()
    collector.grant("u-1", "rq rq_jobs.export", service="worker", mode="trickle", rate_per_s=0.001)
    with heatshield.user("u-1"):
        jobs = [queue.enqueue(rq_jobs.export, ["hat"]) for _ in range(4)]
    run_worker()
    assert [job.get_status() for job in jobs] == ["finished"] + ["stopped"] * 3


def test_an_edge_links_to_its_caller_once(service, queue, work):
    made = service(edge=True)
    with heatshield.user("u-1"), heatshield.guard("checkout"):
        queue.enqueue(rq_jobs.export, ["hat"])
    work()
    (sent,), (run,) = (named(made.spans, f"{does} rq_jobs.export") for does in ("publish", "rq"))
    assert [link.context.span_id for link in run.links] == [sent.span_id]


def test_a_declared_limit_is_spent_once_for_all_processes_that_a_worker_forks(
    service, queue, run_worker, collector
):
    service()
    collector.state["limits"] = [
        {"id": "exports", "per": "user", "unit": "requests", "rate_per_s": 0.001,
         "call": "rq rq_jobs.export"}
    ]  # fmt: skip
    with heatshield.user("u-1"):
        jobs = [queue.enqueue(rq_jobs.export, ["hat"]) for _ in range(4)]
    run_worker()
    assert [job.get_status() for job in jobs] == ["finished"] * 2 + ["stopped"] * 2


def test_a_worker_that_starts_a_program_for_each_job_refuses_in_there(
    service, queue, port, collector, tmp_path
):
    """Such a program holds nothing of its worker's, so it asks the collector before the job."""
    if not hasattr(rq.worker, "SpawnWorker"):
        pytest.skip("RQ is older than that")
    service()
    entry = collector.grant("u-1", "rq rq_jobs.export", service="worker")
    jobs = []
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            jobs.append(queue.enqueue(rq_jobs.export, ["hat"]))
    peers = str(rq_jobs.__file__).rpartition("/")[0]
    (tmp_path / "program.py").write_text(
        WORKER.format(peers=peers, port=port, worker="SpawnWorker").replace(
            'heatshield.instrument("worker")', ""
        )
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("heatshield"), "run", "--", sys.executable, "program.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "HEATSHIELD_ENDPOINT": collector.endpoint,
             "HEATSHIELD_SERVICE": "worker"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [job.get_status() for job in jobs] == ["stopped", "finished"]
    assert counted(collector) == {entry: 1}
