"""Processes that processes start: each exports its own, once, as an instance of its own."""

import pytest

SELL = """
import heatshield, logging, multiprocessing, os, subprocess, sys, threading, time

def sell(user):
    with heatshield.guard("sell"):
        heatshield.user(user)
        logging.getLogger("shop").warning("bought by %s", user)
"""

PROGRAMS = {
    "process": """
processes = [context.Process(target=sell, args=(f"c-{n}",)) for n in range(3)]
for process in processes: process.start()
for process in processes: process.join()
assert [process.exitcode for process in processes] == [0, 0, 0]
""",
    "process that exits": """
def leave(user):
    sell(user)
    sys.exit(4)
processes = [context.Process(target=leave, args=(f"c-{n}",)) for n in range(3)]
for process in processes: process.start()
for process in processes: process.join()
assert [process.exitcode for process in processes] == [4, 4, 4]
""",
    "pool": """
barrier = context.Barrier(3)
def meet(barrier_):
    global barrier
    barrier = barrier_
def work(user):
    barrier.wait()
    sell(user)
if __name__ == "__main__":
    with context.Pool(3, meet, (barrier,)) as pool:
        pool.map(work, ["c-0", "c-1", "c-2"], chunksize=1)
""",
    "executor": """
from concurrent.futures import ProcessPoolExecutor
def meet(barrier_):
    global barrier
    barrier = barrier_
def work(user):
    barrier.wait()
    sell(user)
if __name__ == "__main__":
    with ProcessPoolExecutor(3, context, meet, (context.Barrier(3),)) as pool:
        list(pool.map(work, ["c-0", "c-1", "c-2"]))
""",
    "process that is terminated": """
def stay(user, queue):
    sell(user)
    queue.put(user)
    time.sleep(60)
if __name__ == "__main__":
    queue = context.SimpleQueue()
    processes = [context.Process(target=stay, args=(f"c-{n}", queue)) for n in range(3)]
    for process in processes: process.start()
    for process in processes: queue.get()
    for process in processes: process.terminate()
    for process in processes: process.join()
    assert [process.exitcode for process in processes] == [-15, -15, -15]
""",
}


def indented(code):
    return "".join(f"    {line}\n" for line in code.splitlines())


@pytest.mark.parametrize(
    ("program", "method"),
    [
        *((program, "fork") for program in PROGRAMS),
        *(("process", method) for method in ("spawn", "forkserver")),
        *(("pool", method) for method in ("spawn", "forkserver")),
        ("process that is terminated", "spawn"),
    ],
)
def test_children_of_multiprocessing(deploy, tmp_path, purchases, instances, program, method):
    code = PROGRAMS[program]
    if "__name__" not in code:
        head, _, body = code.rpartition("processes = [")
        code = head + 'if __name__ == "__main__":\n' + indented("processes = [" + body)
    (tmp_path / "script.py").write_text(
        f"{SELL}\ncontext = multiprocessing.get_context('{method}')\n{code}\n"
        "if __name__ == '__main__':\n    sell('parent')\n"
    )
    assert deploy("script.py").process.wait(30) == 0
    once = dict.fromkeys(["parent", "c-0", "c-1", "c-2"], 1)
    assert purchases("sell") == (once, once)
    assert len(instances("sell")[1]) == 4


CHILDREN = {
    "subprocess": "subprocess.run([sys.executable, 'child.py'], check=True)",
    "subprocess that runs something first": (
        "subprocess.run([sys.executable, 'child.py'], check=True, preexec_fn=os.getpid)"
    ),
    "fork and exec": """
if os.fork() == 0:
    os.execv(sys.executable, [sys.executable, 'child.py'])
assert os.wait()[1] == 0
""",
    "fork and exit": """
if os.fork() == 0:
    sell('child')
    sys.exit(0)
assert os.wait()[1] == 0
""",
    "fork and flush": """
if os.fork() == 0:
    sell('child')
    assert heatshield.flush()
    os._exit(0)
assert os.wait()[1] == 0
""",
    "fork of a fork": """
if os.fork() == 0:
    if os.fork() == 0:
        sell('child')
        sys.exit(0)
    assert os.wait()[1] == 0
    os._exit(0)
assert os.wait()[1] == 0
""",
}


@pytest.mark.parametrize("how", CHILDREN)
def test_a_child(deploy, tmp_path, purchases, instances, how):
    (tmp_path / "child.py").write_text(f"{SELL}\nsell('child')\n")
    (tmp_path / "script.py").write_text(f"{SELL}\nsell('before')\n{CHILDREN[how]}\nsell('after')\n")
    assert deploy("script.py").process.wait(30) == 0
    once = {"before": 1, "child": 1, "after": 1}
    assert purchases("sell") == (once, once)
    assert len(instances("sell")[1]) == 2


def test_a_process_that_only_calls_others_is_no_instance(deploy, tmp_path, collector):
    (tmp_path / "script.py").write_text("""
import time
from opentelemetry.trace import SpanKind, get_tracer
for kind in (SpanKind.CLIENT, SpanKind.PRODUCER):
    get_tracer("test").start_span("call", kind=kind).end()
time.sleep(0.5)
""")
    assert deploy("script.py").process.wait(30) == 0
    assert len(collector.spans) == 2
    assert collector.listeners == []


def test_what_a_child_refused_is_reported_though_it_ends_at_once(deploy, tmp_path, collector):
    """And it refuses from its beginning, by what its parent knew."""
    collector.grant("u-1", "sell")
    (tmp_path / "program.py").write_text(
        SELL
        + """
def refused():
    try:
        sell("u-1")
    except heatshield.BreakerOpen:
        return True

def child():
    assert refused()

while not refused():
    time.sleep(0.01)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0
"""
    )
    assert deploy(str(tmp_path / "program.py")).process.wait(30) == 0
    rows = [row for _, report in collector.reports for row in report["rejected"]]
    assert sum(row["count"] for row in rows) == 2
