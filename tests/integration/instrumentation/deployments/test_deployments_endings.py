"""How processes end: whatever is queued leaves, and whoever waits for them sees no difference."""

import signal
import subprocess
import time

import pytest

SELL = """
import heatshield, logging, os, signal, sys, threading, time

def sell(user):
    with heatshield.guard("sell"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
"""

PROGRAMS = {
    "sleeping": "sell('u-1'); print('sold', flush=True); time.sleep(60)",
    "asyncio": """
import asyncio
async def main():
    sell('u-1')
    print('sold', flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    "uvloop": """
import asyncio, uvloop
async def main():
    sell('u-1')
    print('sold', flush=True)
    await asyncio.sleep(60)
uvloop.run(main())
""",
    "joining a thread": """
def work():
    sell('u-1')
    print('sold', flush=True)
    time.sleep(60)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
    "own handler": """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
sell('u-1'); print('sold', flush=True); time.sleep(60)
""",
}


@pytest.fixture
def script(deploy, tmp_path):
    """Start a program, with and without instrumentation; returns both."""

    def start(code, **env):
        path = tmp_path / "script.py"
        path.write_text(SELL + code)
        common = {"stdout": subprocess.PIPE, "env": env}
        return deploy(str(path), **common), deploy(str(path), instrumented=False, **common)

    return start


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_a_script_flushes_it_first(script, purchases, program, signum):
    ours, plain = script(PROGRAMS[program])
    for one in (ours, plain):
        one.says("sold")
    took_s = ours.end(signum) - plain.end(signum)
    assert ours.process.returncode == plain.process.returncode
    assert purchases("sell") == ({"u-1": 1}, {"u-1": 1})
    assert took_s < 4


def test_the_second_signal_does_not_wait(script, silent_endpoint):
    ours, _ = script(PROGRAMS["sleeping"], HEATSHIELD_ENDPOINT=silent_endpoint)
    ours.says("sold")
    ours.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        ours.process.wait(0.5)
    assert ours.end() < 1.5
    assert ours.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("program", ["sleeping", "own handler"])
def test_a_silent_collector_delays_the_end_by_two_seconds(script, silent_endpoint, program):
    ours, plain = script(PROGRAMS[program], HEATSHIELD_ENDPOINT=silent_endpoint)
    for one in (ours, plain):
        one.says("sold")
    assert 1.5 < ours.end() - plain.end() < 4


def test_a_collector_that_is_not_there_does_not_delay_the_end(script):
    ours, _ = script(PROGRAMS["sleeping"], HEATSHIELD_ENDPOINT="http://127.0.0.1:9")
    ours.says("sold")
    assert ours.end() < 1.5


def test_a_signal_that_comes_while_the_main_thread_holds_our_locks_is_obeyed(script):
    ours, _ = script("""
from heatshield.counters import COUNTERS
from heatshield.runtime import _RUNNING
sell('u-1')
exporter = _RUNNING.get().exporter
with COUNTERS._lock, _RUNNING._lock, exporter._lock:
    print('sold', flush=True)
    time.sleep(60)
""")
    ours.says("sold")
    assert ours.end() < 6
    assert ours.process.returncode == -signal.SIGTERM


def test_who_ignores_the_signal_goes_on_ignoring_it(script):
    for one in script("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('sold', flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print('alive', flush=True)
"""):
        one.says("sold")
        one.says("alive")


def test_who_is_not_killed_by_the_signal_is_flushed_the_next_time_too(script, purchases, until):
    """The first process of a container is not. Here it just does not send itself the signal."""
    ours, _ = script("""
os.kill = lambda *_: print('spared', flush=True)
sell('u-1'); print('sold', flush=True); time.sleep(1)
sell('u-2'); print('sold', flush=True); time.sleep(60)
""")
    for user in ("u-1", "u-2"):
        ours.says("sold")
        ours.process.send_signal(signal.SIGTERM)
        ours.says("spared")
        assert purchases("sell")[0][user] == 1


def test_a_main_thread_that_never_comes_back_to_python_can_be_ended(script, purchases):
    """A handler in Python would wait for it, for ever."""
    ours, _ = script("""
import ctypes
mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
sell('u-1'); print('sold', flush=True)
libc.pthread_mutex_lock(mutex)
""")
    ours.says("sold")
    time.sleep(0.1)
    assert ours.end() < 4
    assert ours.process.returncode == -signal.SIGTERM
    assert purchases("sell")[0] == {"u-1": 1}


def test_the_service_sees_the_signal_as_it_was(script):
    ours, plain = script("""
sell('u-1')
def handler(signum, frame):
    signal.signal(signum, previous)
    os.kill(os.getpid(), signum)
    print('alive', flush=True)
previous = signal.signal(signal.SIGTERM, handler)
print(previous is signal.SIG_DFL, flush=True)
time.sleep(60)
""")
    for one in (ours, plain):
        one.says("True")
        one.end()
        one.says("")
    assert ours.process.returncode == plain.process.returncode


ENDINGS = {
    "falls off": ("sell('u-1')", 0),
    "exits": ("sell('u-1'); sys.exit(3)", 3),
    "fails": ("sell('u-1'); 1 / 0", 1),
    "sells in an exit handler": ("import atexit; atexit.register(sell, 'u-1')", 0),
    "sells in a thread at the end": (
        "threading.Thread(target=lambda: (time.sleep(0.3), sell('u-1'))).start()",
        0,
    ),
    "becomes another program": ("sell('u-1'); os.execv('/bin/sh', ['sh', '-c', 'exit 5'])", 5),
    "is replaced by name": ("sell('u-1'); os.execlp('sh', 'sh', '-c', 'exit 6')", 6),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_ends_by_itself_loses_nothing(deploy, tmp_path, purchases, ending):
    code, status = ENDINGS[ending]
    (tmp_path / "script.py").write_text(SELL + code)
    ours = deploy("script.py", stderr=subprocess.DEVNULL)
    assert ours.process.wait(20) == status
    assert purchases("sell") == ({"u-1": 1}, {"u-1": 1})


def test_a_package_that_is_run_loses_nothing(deploy, tmp_path, purchases):
    package = tmp_path / "job"
    package.mkdir()
    (package / "__main__.py").write_text(SELL + "sell('u-1')\n")
    assert deploy("-m", "job").process.wait(20) == 0
    assert purchases("sell") == ({"u-1": 1}, {"u-1": 1})
