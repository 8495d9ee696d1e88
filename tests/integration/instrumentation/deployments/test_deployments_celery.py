"""celery's prefork pool: its processes send spans; the one that feeds them follows breakers.

Pools of greenlets or threads are one process, and that is the instance.
"""

import subprocess
import sys
from collections import Counter

import pytest

TASKS = """
import logging, os, time
import celery, heatshield

app = celery.Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
    },
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)

@app.task
def buy(user):
    with heatshield.guard("buy"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
        time.sleep(0.05)
"""

SEND = """
import sys
from tasks import buy
for user in sys.argv[1:]:
    buy.delay(user)
"""

CELERY_S = 6.2
"""Seconds that celery itself takes to end warmly: four to six."""

WORKER = ("-m", "celery", "-A", "tasks", "worker", "-c", "2", "-l", "warning")
QUIETLY = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@pytest.fixture
def send(tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "queue").mkdir()
    (tmp_path / "control").mkdir()

    def send(*users):
        subprocess.run([sys.executable, "-c", SEND, *users], cwd=tmp_path, check=True, timeout=30)

    return send


def test_each_process_of_the_pool_exports_once_and_flushes_at_sigterm(
    deploy, send, until, purchases, instances, tmp_path
):
    worker = deploy(*WORKER, *QUIETLY)
    until(lambda: len(instances("buy")[0]) == 3, timeout_s=30)
    users = [f"u-{n}" for n in range(8)]
    send(*users)
    until(lambda: not list((tmp_path / "queue").glob("*celery*")), timeout_s=30)
    took_s = worker.end()
    assert worker.process.returncode == 0
    once = Counter(users)
    assert purchases("buy") == (once, once)
    following, of_spans = instances("buy")
    assert len(of_spans) == 2
    assert of_spans < set(following)
    assert list(following.values()) == [1, 1, 1]
    assert took_s < CELERY_S + 10  # a loaded machine takes its time


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "threads"])
def test_a_pool_in_one_process_runs_tasks_at_once_and_flushes_at_sigterm(
    deploy, send, until, purchases, instances, tmp_path, pool
):
    if pool != "threads":
        pytest.importorskip(pool)
    worker = deploy(*WORKER, *QUIETLY, "-P", pool, "-c", "8")
    users = [f"u-{n}" for n in range(16)]
    send(*users)
    until(lambda: len(instances("buy")[0]) == 1, timeout_s=30)
    until(lambda: not list((tmp_path / "queue").glob("*celery*")), timeout_s=30)
    took_s = worker.end()
    assert worker.process.returncode == 0
    once = Counter(users)
    assert purchases("buy") == (once, once)
    following, of_spans = instances("buy")
    assert set(following) == of_spans
    assert took_s < CELERY_S + 10
