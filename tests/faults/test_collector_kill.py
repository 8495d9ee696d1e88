"""A collector that is killed, or told to stop, under load: what it acknowledged is there."""

import random
import signal
import time
from collections import Counter

import pytest

from collector_process import CollectorProcess, Senders, collector_process
from heatshield_collector.store import DuckDBStore

ENOUGH = 1_000
"""Spans acknowledged in a round before anything happens."""

ENDS_WITHIN_S = 10.0


def loaded(senders: Senders, collector: CollectorProcess) -> None:
    """Wait until the collector has taken in some."""
    before, deadline_s = len(senders.acked), time.monotonic() + 30
    while len(senders.acked) - before < ENOUGH:
        assert time.monotonic() < deadline_s, "the collector takes nothing in"
        assert collector.process.poll() is None
        time.sleep(0.01)


def epoch(collector: CollectorProcess) -> int:
    return collector.ask("GET", "/v1/breakers")["epoch"]


def stored(folder) -> Counter:
    """How often each span is in the file, by its number; its trace has the same one."""
    store = DuckDBStore(folder)
    rows = store._database.select('SELECT trace_id, span_id, call, name, "user" FROM spans')
    store.close()
    for trace, span, _, name, user in rows:
        assert int.from_bytes(trace, "big") == int.from_bytes(span, "big")
        assert (name, user[:2]) == ("POST /p", "u-")
    return Counter(int.from_bytes(span, "big") for _, span, *_ in rows)


def audit(senders: Senders, folder) -> Counter:
    found = stored(folder)
    missing = senders.acked - found.keys()
    assert not missing, f"{len(missing)} acknowledged spans are lost, {min(missing)} among them"
    assert found.keys() <= senders.sent, "spans that nobody sent"
    return found


def kill(collector: CollectorProcess) -> None:
    time.sleep(random.uniform(0.05, 0.4))
    collector.process.kill()


def terminate_and_kill(collector: CollectorProcess) -> None:
    """While it drains, or folds its log into the file."""
    collector.process.terminate()
    time.sleep(random.uniform(0.02, 0.3))
    collector.process.kill()


def test_a_collector_killed_under_load_has_every_span_it_acknowledged(tmp_path):
    """Four times on one file, each audited; what went unanswered is sent again to the next one."""
    folder, senders, epochs = tmp_path / "data", Senders(), []
    for end in (kill, terminate_and_kill, kill, terminate_and_kill):
        with collector_process(folder) as collector:
            epochs.append(epoch(collector))
            with senders.load(collector):
                loaded(senders, collector)
                end(collector)
        audit(senders, folder)
    assert epochs == sorted(set(epochs)), "an epoch came twice"
    with collector_process(folder) as collector:
        with senders.load(collector):
            loaded(senders, collector)
        collector.process.terminate()
        assert collector.process.wait(ENDS_WITHIN_S) == 0
    found = audit(senders, folder)
    assert senders.sent - senders.acked <= {n for row in senders.unsettled for n in row}
    twice = [number for number, times in found.items() if times > 1]
    store = DuckDBStore(folder)
    for number in twice[:50]:
        assert len(store.spans_of(number.to_bytes(16, "big"))) == 1
    store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_collector_told_to_stop_under_load_answers_stores_and_ends(tmp_path, number):
    folder, senders = tmp_path / "data", Senders()
    with collector_process(folder) as collector:
        with senders.load(collector):
            loaded(senders, collector)
            collector.process.send_signal(number)
            told_s = time.monotonic()
            assert collector.process.wait(ENDS_WITHIN_S) == 0
            assert time.monotonic() - told_s < ENDS_WITHIN_S
        assert "everything acknowledged is on the disk" in collector.process.stdout.read()
    found = audit(senders, folder)
    assert max(found.values()) == 1
