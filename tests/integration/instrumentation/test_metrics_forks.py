"""No lock of a registry is handed down a fork because one of our threads was reading it."""

HOLDING = """
import os, sys, threading, time
from heatshield.metrics.registry_guard import REGISTRY_IN_USE

lock, reading = threading.Lock(), threading.Event()

def read(for_s):
    with REGISTRY_IN_USE, lock:
        reading.set()
        time.sleep(for_s)

def fork_while_somebody_reads(for_s):
    threading.Thread(target=read, args=(for_s,), daemon=True).start()
    reading.wait()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        free = lock.acquire(timeout=1)
        with REGISTRY_IN_USE:  # and the guard itself is free in the child
            os._exit(0 if free else 3)
    took_s = time.monotonic() - began
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with REGISTRY_IN_USE:
        return code, took_s
"""


def test_a_fork_waits_until_what_is_read_is_read(run_python):
    done = run_python(HOLDING + "print(*fork_while_somebody_reads(0.2))\n")
    assert done.returncode == 0, done.stderr
    code, took_s = done.stdout.split()
    assert code == "0"
    assert 0.1 < float(took_s) < 0.45


def test_a_registry_that_takes_for_ever_holds_no_fork_up_for_long(run_python):
    """The service's own collectors may do anything; then a fork goes on without waiting."""
    done = run_python(HOLDING + "print(*fork_while_somebody_reads(1.5))\n")
    assert done.returncode == 0, done.stderr
    assert 0.4 < float(done.stdout.split()[1]) < 1.0


def test_a_collector_that_forks_while_it_is_read_does_not_wait_for_itself_for_ever(run_python):
    done = run_python(
        """
import os
from heatshield.metrics.registry_guard import REGISTRY_IN_USE
with REGISTRY_IN_USE:
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
child = os.fork()
if child == 0:
    with REGISTRY_IN_USE:
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert done.returncode == 0, done.stderr


def test_no_thread_of_ours_is_there_when_a_process_forks_and_it_goes_on_afterwards(run_python):
    """Python 3.12 warns of forks with threads, as their locks may be handed down."""
    done = run_python(
        """
import os, threading
import heatshield
heatshield.instrument(service="shop", metrics_interval_s=0.1)
from opentelemetry import trace
from opentelemetry.trace import SpanKind
with trace.get_tracer("t").start_as_current_span("GET /x", kind=SpanKind.SERVER):
    pass
names = lambda: {thread.name for thread in threading.enumerate()}
assert "heatshield-metrics" in names()
if os.fork() == 0:
    os._exit(0)
os.wait()
assert "heatshield-metrics" in names()
from heatshield.runtime import _RUNNING
_RUNNING._before_fork()
assert "heatshield-metrics" not in names(), names()
_RUNNING._after_fork_in_parent()
assert "heatshield-metrics" in names()
"""
    )
    assert done.returncode == 0, done.stderr
