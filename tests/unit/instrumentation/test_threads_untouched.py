"""What handing a request on to threads must leave as it was."""

import inspect
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar

import pytest
from flask import Flask

import heatshield


@pytest.fixture
def app():
    """A shop whose view, set by a test, is run for the user u-1."""
    shop = Flask("shop")

    @shop.get("/export")
    def export():
        heatshield.user("u-1")
        shop.run_view()
        return "done"

    shop.ask = lambda: shop.test_client().get("/export", buffered=True).text
    return shop


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as made:
        yield made


class Worker(threading.Thread):
    """A class of the service's that does not call what it overrides."""

    def run(self):
        self.ran = True


def joined(thread):
    thread.start()
    thread.join()


def test_functions_keep_their_signatures(service):
    before = [
        inspect.signature(function)
        for function in (threading.Thread.start, ThreadPoolExecutor.submit)
    ]
    service()
    assert before == [
        inspect.signature(function)
        for function in (threading.Thread.start, ThreadPoolExecutor.submit)
    ]
    assert ThreadPoolExecutor.submit.__name__ == "submit"


def test_arguments_results_and_errors_pass_through(service, app, pool):
    service()

    def failing(*args, **kwargs):
        raise LookupError(args, kwargs)

    def view():
        assert pool.submit(dict, [("a", 1)], fn=2, self=3).result() == {"a": 1, "fn": 2, "self": 3}
        assert pool.submit(failing, 1, b=2).exception().args == ((1,), {"b": 2})
        with pytest.raises(TypeError):
            pool.submit()

    app.run_view = view
    assert app.ask() == "done"


def test_a_variable_of_the_service_s_stays_with_the_thread(service, app, pool):
    """Its own variables are the service's business, and are as they are without heatshield."""
    service()
    kept = ContextVar("kept", default=None)

    def view():
        pool.submit(kept.set, "set").result()
        assert pool.submit(kept.get).result() == "set"

    app.run_view = view
    assert app.ask() == "done"


def test_a_thread_keeps_its_own_run_and_starts_once(service, app):
    service()

    def view():
        thread = Worker()
        joined(thread)
        assert "run" not in vars(thread)
        with pytest.raises(RuntimeError):
            thread.start()
        assert "run" not in vars(thread)
        own = threading.Thread()
        own.run = int  # set by the service
        joined(own)
        assert vars(own)["run"] is int

    app.run_view = view
    assert app.ask() == "done"


def test_a_pool_of_processes_is_left_alone(service, app):
    service()

    def view():
        with ProcessPoolExecutor(1) as processes:
            assert processes.submit(abs, -1).result() == 1

    app.run_view = view
    assert app.ask() == "done"


def test_a_refusal_in_a_thread_is_the_thread_s(service, app, pool):
    made = service()
    made.trip("u-1", "export.rows")

    def refused():
        with heatshield.guard("export.rows"):
            pytest.fail("the body ran")

    def view():
        assert isinstance(pool.submit(refused).exception(), heatshield.BreakerOpen)

    app.run_view = view
    assert app.ask() == "done"


def test_once_removed_all_is_as_before():
    script = """
import threading
from concurrent.futures import ThreadPoolExecutor
before = threading.Thread.start, ThreadPoolExecutor.submit
import heatshield
heatshield.instrument("shop", endpoint="http://127.0.0.1:1")
assert threading.Thread.start is not before[0] and ThreadPoolExecutor.submit is not before[1]
heatshield.shutdown()
from heatshield.integrations.processes import concurrent_futures, threading as threads
threads.remove(), concurrent_futures.remove()
assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
