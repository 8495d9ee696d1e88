"""Log records that are too many: told in time, by the process that suppressed them."""

import pytest

from heatshield import autostart

FLOOD = """
import logging, os, sys, time
log = logging.getLogger("shop")
def flood(records):
    for n in range(records):
        log.error("again %d", n)
flood(50)
"""
WAITING = FLOOD + "time.sleep(2.5)\nos._exit(0)\n"  # no exit handler tells it
ENDING = FLOOD
FORKING = (
    FLOOD
    + """
if os.fork() == 0:
    flood(10)
    sys.exit(0)
os.wait()
time.sleep(2.5)
os._exit(0)
"""
)
AGAIN = FLOOD + "time.sleep(1.2)\nflood(5)\n"


@pytest.fixture
def told(run_python, collector, plain):
    """Run a program that may send two records a second from a place; what it was told."""

    def run(code):
        environ = {"HEATSHIELD_SERVICE": "shop", "HEATSHIELD_LOG_RATE": "2"}
        done = run_python(code, **autostart.environment(environ))
        assert done.returncode == 0, done.stderr
        assert "again 49" in done.stderr
        sent = [record for record in collector.logs if "again" in record.body.string_value]
        suppressions = [plain(r.attributes) for r in collector.logs if r not in sent]
        return len(sent), [one["heatshield.log.suppressed"] for one in suppressions]

    return run


def test_what_was_suppressed_is_told_though_nothing_more_is_logged(told):
    assert told(WAITING) == (2, [48])


def test_the_end_of_a_process_tells_it(told):
    assert told(ENDING) == (2, [48])


def test_each_second_is_told_of_by_itself(told):
    assert told(AGAIN) == (4, [48, 3])


def test_a_child_process_counts_for_itself(told):
    sent, suppressed = told(FORKING)
    assert (sent, sorted(suppressed)) == (4, [8, 48])
