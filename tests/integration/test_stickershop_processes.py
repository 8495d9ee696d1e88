"""Child processes of the demo: started, waited for, reported when they fail, always ended."""

import sys

import psutil
import pytest

from heatshield_stickershop.processes import ChildFailed, Processes, answers_ok, free_port

ENV = {"PATH": "/usr/bin:/bin"}


def python(program):
    return [sys.executable, "-c", program]


def test_a_child_is_ready_when_it_answers_and_gone_with_its_own_children_at_the_end(tmp_path):
    port = free_port()
    spawning = (
        "import subprocess, sys, http.server\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        f"http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
    )
    with Processes(tmp_path) as processes:
        child = processes.start("web", python(spawning), ENV)
        processes.wait_ready(child, answers_ok(f"http://127.0.0.1:{port}/"))
        grandchild = psutil.Process(int(child.log.read_text().split()[0]))
        assert grandchild.is_running()
    assert child.process.returncode is not None
    grandchild.wait(5)


def test_a_child_that_ends_is_reported_with_the_end_of_its_log(tmp_path):
    with Processes(tmp_path) as processes:
        child = processes.start("shop", python("raise SystemExit('no such database')"), ENV)
        with pytest.raises(ChildFailed, match=r"(?s)shop ended with status 1.*no such database"):
            processes.wait_ready(child, lambda: False)


def test_a_child_that_does_not_get_ready_in_time_is_reported_and_ended(tmp_path):
    with Processes(tmp_path) as processes:
        child = processes.start("shop", python("import time; time.sleep(60)"), ENV)
        with pytest.raises(ChildFailed, match=r"shop was not ready in 0\.2 s"):
            processes.wait_ready(child, lambda: False, within_s=0.2)
    assert child.process.returncode is not None


def test_a_child_that_ignores_a_polite_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("heatshield_stickershop.processes.STOP_WITHIN_S", 0.2)
    stubborn = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(60)"
    )
    with Processes(tmp_path) as processes:
        child = processes.start("deaf", python(stubborn), ENV)
        processes.wait_ready(child, lambda: "deaf" in child.log.read_text())
    assert child.process.returncode == -9


def test_children_are_ended_when_the_run_is_interrupted(tmp_path):
    children = []

    def interrupted_run():
        with Processes(tmp_path) as processes:
            children.append(processes.start("shop", python("import time; time.sleep(60)"), ENV))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert children[0].process.returncode is not None


def test_a_dead_child_is_noticed_while_the_others_live(tmp_path):
    with Processes(tmp_path) as processes:
        processes.start("lives", python("import time; time.sleep(60)"), ENV)
        dies = processes.start("dies", python("pass"), ENV)
        dies.process.wait(10)
        with pytest.raises(ChildFailed, match="dies ended with status 0"):
            processes.check()
