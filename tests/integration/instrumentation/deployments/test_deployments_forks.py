"""Nothing of a thread comes through a fork: no lock, no thread, no connection, no record."""

import pytest

SELL = """
import heatshield, logging, os, sys, threading, time
logging.lastResort = logging.NullHandler()

def sell(user):
    with heatshield.guard("sell"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
"""


@pytest.fixture
def script(deploy, tmp_path):
    """Run a program to its end."""

    def run(code, *, instrumented=True, **env):
        path = tmp_path / "script.py"
        path.write_text(SELL + code)
        ran = deploy(str(path), instrumented=instrumented, env=env)
        assert ran.process.wait(30) == 0

    return run


FORKS = 40

STORM = f"""
stopping = threading.Event()
sold = [0, 0, 0]

def work(number):
    while not stopping.is_set():
        sell(f"parent-{{number}}-{{sold[number]}}")
        sold[number] += 1
        time.sleep(0.0005)

threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sold))]
for thread in threads: thread.start()
children = []
for number in range({FORKS}):
    pid = os.fork()
    if pid == 0:
        sell(f"child-{{number}}")
        assert heatshield.flush()
        assert heatshield.status()["errors"] == {{}}, heatshield.status()
        os._exit(0)
    children.append(pid)
    time.sleep(0.005)
stopping.set()
for thread in threads: thread.join()
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * {FORKS}
assert heatshield.flush()
status = heatshield.status()
assert (status["errors"], status["dropped"]) == ({{}}, {{}}), status
with open("sold", "w") as file: file.write(" ".join(map(str, sold)))
"""


def test_forks_in_the_midst_of_spans_and_logs_of_many_threads(
    script, tmp_path, purchases, instances
):
    script(STORM, HEATSHIELD_FLUSH_INTERVAL_S="0.001", HEATSHIELD_LOG_RATE="0")
    counts = [int(number) for number in (tmp_path / "sold").read_text().split()]
    users = [f"parent-{n}-{i}" for n, count in enumerate(counts) for i in range(count)]
    once = dict.fromkeys([*users, *(f"child-{n}" for n in range(FORKS))], 1)
    assert purchases("sell") == (once, once)
    assert len(instances("sell")[1]) == FORKS + 1


def test_no_thread_of_ours_is_there_at_a_fork_of_a_process_that_does_not_serve(script, purchases):
    """Python warns who forks with threads, from 3.12 on; a master's logs must not be why."""
    script(
        """
at_fork = []
os.register_at_fork(before=lambda: at_fork.append(ours()))  # the first to be registered runs last
heatshield.instrument()

def ours():
    return [one.name for one in threading.enumerate() if one.name.startswith("heatshield")]

def say(user):
    logging.getLogger("shop").warning("bought by %s", user)

for number in range(3):
    say(f"parent-{number}")
    assert "heatshield-export" in ours()
    if os.fork() == 0:
        assert ours() == []
        say(f"child-{number}")
        sys.exit()
    assert "heatshield-export" in ours(), "it goes on with what is queued"
    assert os.wait()[1] == 0
assert at_fork == [[]] * 3, at_fork
""",
        instrumented=False,
    )
    who = ("parent", "child")
    assert purchases("sell")[1] == {f"{one}-{number}": 1 for one in who for number in range(3)}


def test_a_fork_does_not_wait_for_a_collector_that_never_answers(script, silent_endpoint):
    script(
        """
logging.getLogger("shop").warning("bought by %s", "u-1")
time.sleep(0.2)  # it is being sent
began = time.monotonic()
if os.fork() == 0:
    os._exit(0)
assert time.monotonic() - began < 1
assert os.wait()[1] == 0
os._exit(0)
""",
        HEATSHIELD_ENDPOINT=silent_endpoint,
        HEATSHIELD_FLUSH_INTERVAL_S="0.01",
    )


def test_the_child_lets_go_of_the_connections_of_its_parent(script, collector):
    script("""
def sockets():
    with os.scandir("/proc/self/fd") as folder:
        links = [os.readlink(file.path) for file in folder]
    return sorted(link for link in links if link.startswith(("socket", "pipe")))

before = sockets()
with heatshield.guard("sell"):  # it serves: so it follows breakers, too
    pass
assert heatshield.flush()
time.sleep(0.3)
assert len(sockets()) > len(before)
if os.fork() == 0:
    assert sockets() == before
    os._exit(0)
assert os.wait()[1] == 0
""")
    assert len(collector.listeners) == 1, "the child served nothing, so it is no instance"


def test_a_span_around_a_fork_is_the_parents_alone(script, collector):
    script("""
with heatshield.guard("outer"):
    pid = os.fork()
    with heatshield.guard("child" if pid == 0 else "parent"):
        pass
if pid == 0:
    sys.exit()
assert os.wait()[1] == 0
""")
    spans = {span.name: span for _, span in collector.spans}
    assert sorted(span.name for _, span in collector.spans) == ["child", "outer", "parent"]
    assert spans["child"].parent_span_id == spans["outer"].span_id
    assert spans["child"].span_id != spans["parent"].span_id


def test_what_the_parent_refused_only_the_parent_reports(script, collector):
    collector.state["entries"].append(
        {
            "id": "b-1", "user": "u-1", "service": "shop", "call": "sell",
            "mode": "reject", "lease_ms": 30_000, "issuer": "human:test",
        }
    )  # fmt: skip
    script("""
def refused():
    try:
        sell("u-1")
    except heatshield.BreakerOpen:
        return True

while not refused():
    time.sleep(0.01)
if os.fork() == 0:
    assert refused(), "a grant goes on to hold in a child"
    time.sleep(1.5)
    os._exit(0)
assert os.wait()[1] == 0
""")
    rows = [row for _, report in collector.reports for row in report["rejected"]]
    assert sum(row["count"] for row in rows) == 2


def test_no_thread_of_ours_imports_anything(script):
    """A child would wait for the lock of a module that was being imported at the fork."""
    script("""
class Finder:
    found = []
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if threading.current_thread().name.startswith("heatshield"):
            cls.found.append((threading.current_thread().name, name))

sys.meta_path.insert(0, Finder)
sell("u-1")
assert heatshield.flush()
time.sleep(1.5)  # metrics, breakers, reports
sell("u-1")
assert heatshield.flush()
assert Finder.found == [], Finder.found
""")


@pytest.mark.parametrize("begin", ["", 'heatshield.instrument("shop")'])
def test_no_import_of_ours_is_left_half_done_in_a_child(run_python, begin):
    """A guard's first use in a thread imports what guards need; the child needs it, too."""
    done = run_python(
        f"begin = {begin!r}\n"
        """
import heatshield, os, sys, threading, time

class Slow:
    def find_spec(self, name, *_):
        if name == "heatshield.breakers.guard":
            importing.set()
            time.sleep(0.3)

importing = threading.Event()
exec(begin)
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=heatshield.guard, args=("sell",))
thread.start()
assert importing.wait(10)
began = time.monotonic()
pid = os.fork()
if pid == 0:
    heatshield.guard("sell")
    os._exit(0)
assert time.monotonic() - began < 4, "the fork and the import have waited for each other"
thread.join()
deadline = time.monotonic() + 10
while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
    assert time.monotonic() < deadline, (os.kill(pid, 9), "the child waits for ever")
    time.sleep(0.01)
assert ended[1] == 0
"""
    )
    assert done.returncode == 0, done.stderr


IN_C = """
import ctypes

def others():
    # Of each other thread: whether it sleeps, and how often it was woken.
    found = {}
    for task in set(os.listdir("/proc/self/task")) - {str(threading.get_native_id())}:
        with open(f"/proc/self/task/{task}/status") as status:
            lines = [line.split() for line in status]
        found[task] = [line[1] for line in lines if line[0] == "State:" or "ctxt" in line[0]]
    return found

def fork():
    # A child of C is stuck for ever if another thread was about to hand over Python's lock, or had
    # asked for it. So none may have run for a moment (the charges' runs every 0.2 s), and the
    # interval is so long that none asks.
    sys.setswitchinterval(60)
    while True:
        before = others()
        time.sleep(0.03)
        if before == others() and all(state == "S" for state, *_ in before.values()):
            break
    try:
        return ctypes.PyDLL(None).fork()  # with that lock held, as a server in C forks
    finally:
        sys.setswitchinterval(0.005)
"""


def test_workers_of_a_server_that_forks_in_c_are_instances_of_their_own(
    script, purchases, instances, collector
):
    """The application is loaded, logs and serves, then it is forked without a word to Python."""
    script(
        IN_C
        + """
sell("parent-0")
children = []
for number in range(3):
    pid = fork()
    if pid == 0:
        for sale in range(3):
            sell(f"child-{number}-{sale}")
        assert heatshield.status()["errors"] == {}, heatshield.status()
        sys.exit()
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 3
sell("parent-1")
"""
    )
    users = ["parent-0", "parent-1", *(f"child-{n}-{sale}" for n in range(3) for sale in range(3))]
    once = dict.fromkeys(users, 1)
    assert purchases("sell") == (once, once)
    following, of_spans = instances("sell")
    assert len(of_spans) == 4
    assert set(following) <= of_spans
    assert len({span.span_id for _, span in collector.spans}) == len(users)


def test_the_parent_alone_ends_a_span_that_is_open_where_c_forks(script, purchases):
    script(
        IN_C
        + """
with heatshield.guard("sell"):
    heatshield.user("u-1")
    pid = fork()
if pid == 0:
    sell("u-2")
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
"""
    )
    assert purchases("sell")[0] == {"u-1": 1, "u-2": 1}


def test_sigterm_of_a_child_that_c_forked_does_not_end_its_parent(script, purchases):
    """The child inherits the handler in C, whose pipe wakes a thread of the parent."""
    script(
        IN_C
        + """
import signal
sell("parent-0")
while heatshield.status()["breakers"]["applied"] is None: time.sleep(0.01)
reading, writing = os.pipe()
pid = fork()
if pid == 0:
    sell("child-0")
    os.write(writing, b"!")
    while True: time.sleep(1)
os.read(reading, 1)
os.kill(pid, signal.SIGTERM)
assert os.waitpid(pid, 0)[1] == signal.SIGTERM
time.sleep(0.3)
sell("parent-1")
"""
    )
    once = {"parent-0": 1, "parent-1": 1, "child-0": 1}
    assert purchases("sell") == (once, once)


def test_a_child_that_c_forked_of_a_service_with_a_provider_of_its_own(
    script, purchases, instances
):
    script(
        IN_C
        + """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
sell("parent-0")
children = []
for number in range(2):
    pid = fork()
    if pid == 0:
        sell(f"child-{number}")
        sys.exit()
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 2
"""
    )
    once = {"parent-0": 1, "child-0": 1, "child-1": 1}
    assert purchases("sell") == (once, once)
    assert len(instances("sell")[1]) == 3


def test_what_was_abandoned_before_a_fork_is_the_parents_to_end(run_python):
    """Else a child would send spans of the parent's a second time."""
    done = run_python(
        """
import os
from heatshield.integrations.clients import http_call
from heatshield.integrations.databases import sql_statements
from heatshield.integrations.servers import wsgi

queues = (http_call._ABANDONED, wsgi._ABANDONED, sql_statements._ABANDONED, sql_statements._LATE)
for queue in queues:
    queue.append("a span")
pid = os.fork()
if pid == 0:
    os._exit(sum(map(len, queues)))
assert os.waitpid(pid, 0)[1] == 0
assert all(map(len, queues))
for queue in queues:
    queue.clear()
"""
    )
    assert done.returncode == 0, done.stderr
