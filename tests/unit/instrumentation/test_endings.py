"""The pieces of how processes begin, fork and end."""

import importlib.metadata
import os
import threading
import time
from importlib.metadata import EntryPoint

import pytest
from opentelemetry.instrumentation.distro import BaseDistro, DefaultDistro

from heatshield.autostart import distro
from heatshield.autostart.isolation import obstacle
from heatshield.clock import ManualClock
from heatshield.fork_locks import lock, reentrant_lock
from heatshield.process.shutdown import ANEW_AFTER_S, SHUTDOWN_S, ShutdownBudget
from heatshield.process.wakeup import Wakeup


class Sending:
    """Takes the time that it is told to take, but no more than it is given."""

    def __init__(self, clock, takes_s):
        self.clock, self.takes_s = clock, takes_s
        self.given = []

    def __call__(self, most_s):
        self.given.append(most_s)
        self.clock.advance(min(self.takes_s, most_s))


def test_all_sends_of_an_end_together_wait_no_longer_than_one_may():
    clock = ManualClock()
    sending = Sending(clock, takes_s=1.5)
    budget = ShutdownBudget(sending, clock)
    for _ in range(4):
        budget.send()
    assert sending.given == pytest.approx([SHUTDOWN_S, 0.5])
    assert budget.left_s == 0


def test_what_was_quick_leaves_time_and_what_was_not_the_end_is_forgotten():
    clock = ManualClock()
    sending = Sending(clock, takes_s=0.1)
    budget = ShutdownBudget(sending, clock)
    budget.send()
    budget.spend(lambda: clock.advance(SHUTDOWN_S))
    assert budget.left_s == 0
    clock.advance(ANEW_AFTER_S + 1)
    assert budget.left_s == SHUTDOWN_S


def test_a_send_that_fails_is_swallowed_and_its_time_counts():
    clock = ManualClock()

    def fail(_):
        clock.advance(0.5)
        raise OSError

    budget = ShutdownBudget(fail, clock)
    budget.send()
    assert budget.left_s == pytest.approx(SHUTDOWN_S - 0.5)


def test_a_wakeup_wakes_its_waiter_and_remembers_that_it_was_set():
    wakeup, answered = Wakeup(), Wakeup()

    def wait():
        assert wakeup.wait(10)
        answered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wakeup.set()
    wakeup.set()
    assert answered.wait(10)
    assert wakeup.wait(0)
    assert wakeup.is_set()
    wakeup.clear()
    assert not wakeup.is_set()
    began = time.monotonic()
    assert not wakeup.wait(0.01)
    assert time.monotonic() - began < 5
    thread.join()


def test_a_wakeup_that_was_cleared_can_be_set_again():
    wakeup = Wakeup()
    for _ in range(3):
        wakeup.set()
        assert wakeup.wait()
        wakeup.clear()
        assert not wakeup.wait(0)


@pytest.mark.parametrize("make", [lock, reentrant_lock])
def test_a_lock_that_another_thread_holds_at_a_fork_is_free_in_the_child(make):
    held, done = make(), threading.Event()

    def hold():
        with held:
            taken.set()
            done.wait(10)

    taken = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if held.acquire(timeout=0) else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("python -I app.py", "I"),
        ("python3.12 -sE app.py", "E"),
        ("/usr/bin/python3 -W error -S -m app", "S"),
        ("python -X dev -Wonce -I app.py", "I"),
        ("python --check-hash-based-pycs always -E app.py", "E"),
        ("uv run python -I app.py", "I"),
        ("pypy3 -E app.py", "E"),
        ("python app.py -I", None),
        ("python -m app -E", None),
        ("python -c pass -S", None),
        ("python -mapp -S", None),
        ("python -W -I app.py", None),
        ("python -X E app.py", None),
        ("python - -I", None),
        ("python -- app.py -I", None),
        ("python", None),
        ("uvicorn app:app -I", None),
        ("pythonista -I", None),
    ],
)
def test_flags_that_hide_the_environment_are_read_as_python_reads_them(command, flag):
    program, *arguments = command.split()
    found = obstacle(program, arguments)
    assert found == (flag and f"python -{flag} does not read PYTHONPATH")


@pytest.mark.parametrize(
    ("word", "reset"),
    [
        ("PYTHONPATH=. uvicorn app:app", True),
        ("PYTHONPATH=", True),
        ("PYTHONPATH=.:$PYTHONPATH uvicorn", False),
        ("PYTHONPATH=${PYTHONPATH}:src uvicorn", False),
        ("MYPYTHONPATH=. uvicorn", False),
    ],
)
def test_a_path_that_is_set_anew_is_noticed(word, reset):
    assert (obstacle("sh", ["-c", word]) is not None) == reset


class Other(DefaultDistro):
    pass


OTHER = EntryPoint("other", f"{__name__}:Other", "opentelemetry_distro")
OURS = EntryPoint("heatshield", "heatshield.autostart.distro:distro", "opentelemetry_distro")


@pytest.mark.parametrize(
    ("installed", "named", "ours"),
    [
        ([OURS], None, True),
        ([OURS, OTHER], None, False),
        ([OTHER, OURS], None, False),
        ([OTHER, OURS], "heatshield", True),
    ],
)
def test_our_distro_acts_alone_or_named(monkeypatch, installed, named, ours):
    monkeypatch.setattr(distro, "entry_points", lambda **_: installed)
    monkeypatch.setattr(EntryPoint, "load", lambda _: Other)
    monkeypatch.delenv("OTEL_PYTHON_DISTRO", raising=False)
    if named:
        monkeypatch.setenv("OTEL_PYTHON_DISTRO", named)
    assert isinstance(distro.distro(), distro.Distro) == ours
    assert isinstance(distro.distro(), BaseDistro)


def test_what_heatshield_instruments_opentelemetry_leaves_out(monkeypatch):
    loaded = []
    monkeypatch.setattr(distro, "_instrumented", lambda: ["grpc", "aiohttp_client", "redis"])
    load = distro._without_duplicates(lambda _, entry_point, **__: loaded.append(entry_point.name))
    contrib = "opentelemetry.instrumentation"
    for name, module in {
        "redis": f"{contrib}.redis",
        "grpc_aio_client": f"{contrib}.grpc",
        "aiohttp-client": f"{contrib}.aiohttp_client",
        "aiohttp-server": f"{contrib}.aiohttp_server",
        "pika": f"{contrib}.pika",
        "openai": "opentelemetry_openai.redis",
    }.items():
        load(None, EntryPoint(name, f"{module}:X", "opentelemetry_instrumentor"))
    assert loaded == ["aiohttp-server", "pika", "openai"]


def test_the_entry_points_are_installed():
    for group in ("distro", "configurator", "pre_instrument"):
        found = importlib.metadata.entry_points(group=f"opentelemetry_{group}")
        assert callable(found["heatshield"].load())
