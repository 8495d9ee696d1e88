"""Workers as they are deployed: ``celery worker`` with its pools and a broker of files."""

import json
import os
import signal
import subprocess
import sys

import pytest

APP = """
import os, time
import heatshield
heatshield.instrument(service={service!r})
from celery import Celery

app = Celery("jobs", broker="filesystem://", backend="file://{folder}/results")
app.conf.broker_transport_options = {{
    "data_folder_in": "{folder}/messages", "data_folder_out": "{folder}/messages",
    "control_folder": "{folder}/control", "polling_interval": 0.02,
}}
app.conf.worker_prefetch_multiplier = 1
app.conf.worker_cancel_long_running_tasks_on_connection_loss = False

@app.task(name="job", autoretry_for=(Exception,), max_retries=3)
def job(seconds):
    time.sleep(seconds)
    return os.getpid()
"""

PRODUCER = """
import json, sys
from jobs import app, job
import heatshield

def as_user(user, *jobs):
    def run():
        heatshield.user(user)
        return [job.delay(seconds) for seconds in jobs]
    from contextvars import copy_context
    return copy_context().run(run)

def ending(result):
    try:
        return result.get(timeout=30, interval=0.02)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

sent = as_user("u-1", *[0.1] * 6) + as_user("u-2", *[0.1] * 6)
print(json.dumps([ending(one) for one in sent]))
heatshield.shutdown()
"""


@pytest.fixture
def deployed(tmp_path, collector, until):
    """Starts ``celery worker`` with more arguments; sends jobs to it."""
    for name in ("messages", "control", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "jobs.py").write_text(APP.format(service="jobs", folder=tmp_path))
    environ = {
        **os.environ, "HEATSHIELD_ENDPOINT": collector.endpoint, "PYTHONPATH": str(tmp_path),
    }  # fmt: skip
    workers = []

    def start(*arguments):
        log = (tmp_path / "worker.log").open("w")
        command = [
            sys.executable, "-m", "celery", "-A", "jobs", "worker", "--without-gossip",
            "--without-mingle", "--without-heartbeat", "-l", "INFO", *arguments,
        ]  # fmt: skip
        worker = subprocess.Popen(
            command, cwd=tmp_path, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        workers.append(worker)
        until(lambda: " ready." in (tmp_path / "worker.log").read_text(), 30)
        return worker

    def send():
        done = subprocess.run(
            [sys.executable, "-c", PRODUCER],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    start.send, start.log = send, tmp_path / "worker.log"
    yield start
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def runs_in(collector, plain):
    """(instance, user, attributes) of each run that the collector got."""
    return [
        (resource["service.instance.id"], plain(span.attributes).get("enduser.id"), span)
        for resource, span in collector.spans
        if span.name == "celery job"
    ]


def end(worker):
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_each_child_of_a_prefork_pool_sends_its_own_spans_once_and_refuses_what_is_granted(
    deployed, collector, plain, until
):
    worker = deployed("-P", "prefork", "-c", "2")
    until(lambda: len(collector.streams) >= 2)  # both follow the breakers before their first job
    pids = deployed.send()
    entry_id = collector.grant("u-1", "celery job", service="jobs")
    answers = deployed.send()
    end(worker)

    assert len(set(pids)) == 2, deployed.log.read_text()
    until(lambda: len(runs_in(collector, plain)) >= 24)
    runs = runs_in(collector, plain)
    assert len({instance for instance, _, _ in runs}) == 2
    assert len({span.span_id for _, _, span in runs}) == len(runs) == 24
    assert sorted(user for _, user, _ in runs) == ["u-1"] * 12 + ["u-2"] * 12
    published = {span.span_id for _, span in collector.spans if span.name == "publish job"}
    assert {span.parent_span_id for _, _, span in runs} == published
    assert {span.name for _, span in collector.spans} == {"publish job", "celery job"}

    assert all(str(answer).startswith("TaskRevokedError: refused") for answer in answers[:6])
    assert all(isinstance(answer, int) for answer in answers[6:])
    refused = [
        user
        for _, user, span in runs
        if plain(span.attributes).get("heatshield.rejected") == entry_id
    ]
    assert refused == ["u-1"] * 6
    assert " ERROR" not in deployed.log.read_text()


def test_a_solo_worker_makes_one_span_a_run(deployed, collector, plain, until):
    worker = deployed("-P", "solo")
    pids = deployed.send()
    end(worker)
    assert set(pids) == {worker.pid}
    until(lambda: len(runs_in(collector, plain)) >= 12)
    assert len(runs_in(collector, plain)) == 12


def test_a_child_refuses_its_first_task_and_reports_it_though_it_ends_with_it(
    deployed, collector, until
):
    """Each child holds what the worker knew when it forked, until it follows by itself."""
    entry_id = collector.grant("u-1", "celery job", service="jobs")
    worker = deployed("-P", "prefork", "-c", "1", "--max-tasks-per-child", "1")
    answers = deployed.send()
    end(worker)
    assert all(str(answer).startswith("TaskRevokedError: refused") for answer in answers[:6])
    assert len(set(answers[6:])) == 6
    rows = [row for _, report in collector.reports for row in report.get("rejected", ())]
    assert {row["id"] for row in rows} == {entry_id}
    assert sum(row["count"] for row in rows) == 6
