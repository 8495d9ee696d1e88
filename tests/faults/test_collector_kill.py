"""A collector that is killed, or told to stop, under load: what it acknowledged is there."""

import json
import random
import signal
import time
import urllib.request
from collections import Counter

import pytest

from collector_process import CollectorProcess, Senders, collector_process
from heatshield.cli.local_token import local_token
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
    with urllib.request.urlopen(f"{collector.url}/v1/breakers", timeout=10) as response:
        return json.load(response)["epoch"]


def ask(collector: CollectorProcess, method: str, path: str, body: object = None):
    request = urllib.request.Request(
        f"{collector.url}{path}",
        None if body is None else json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {local_token(collector.url)}",
        },
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def trip(collector: CollectorProcess, user: str) -> str:
    """Trip a breaker around the user; the entry's id."""
    wish = {"user": user, "service": "shop", "call": "POST /p", "lease_ms": 600_000, "by": "ada"}
    return ask(collector, "POST", "/v1/breakers", wish)["id"]


def held(collector: CollectorProcess) -> dict[str, str]:
    """Entry id by user."""
    entries = ask(collector, "GET", "/v1/breakers")["entries"]
    return {entry["user"]: entry["id"] for entry in entries}


def clear(collector: CollectorProcess, entry_id: str) -> None:
    ask(collector, "DELETE", f"/v1/breakers/{entry_id}?by=ada")


def audited(collector: CollectorProcess, change: str, entry_id: str) -> None:
    """Wait until the audit has a change: it is written off the threads that decide."""
    deadline_s = time.monotonic() + 30
    while (change, entry_id) not in {
        (row["change"], row["entry_id"])
        for row in ask(collector, "GET", "/api/audit?limit=100")["changes"]
    }:
        assert time.monotonic() < deadline_s, f"{entry_id} is not {change} in the audit"
        time.sleep(0.01)


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


def test_what_a_killed_collector_held_is_held_on_and_what_it_cleared_is_not(tmp_path):
    """Twice, as a restart gives the entries other ids."""
    folder = tmp_path / "data"
    with collector_process(folder) as collector:
        trip(collector, "u-1")
        clear(collector, trip(collector, "u-2"))
        audited(collector, "opened", trip(collector, "u-3"))
        collector.process.kill()
    with collector_process(folder) as collector:
        assert held(collector).keys() == {"u-1", "u-3"}
        gone = held(collector)["u-3"]
        clear(collector, gone)
        audited(collector, "cleared", gone)
        collector.process.kill()
    with collector_process(folder) as collector:
        assert held(collector).keys() == {"u-1"}
