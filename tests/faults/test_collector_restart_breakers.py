"""A collector that is killed and started again takes back nothing that it had announced.

Real collectors on one folder and one port, and a client as a service has it: its table and the
thread that keeps it true. What the client let through stands in its own log.
"""

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time

import pyarrow as pa
import pytest

from collector_process import collector_process
from heatshield.breakers.decision import Reason
from heatshield.breakers.lease_table import BreakerTable
from heatshield.breakers.watch import Watch
from heatshield.clock import SystemClock
from heatshield.contract import BreakerMode
from heatshield_collector.control.state_file import StateFile
from heatshield_collector.model import AUDIT
from heatshield_collector.store import DuckDBStore

POLL_S = 0.01
RULE = """
  - alert: %s
    expr: 1
    labels: {user: hog, service: shop, call: %s, heatshield_action: trip, heatshield_mode: %s}
"""
RULES = "groups:\n- name: g\n  interval: 250ms\n  rules:" + "".join(
    RULE % row
    for row in (
        ("Cut", "POST /p", "reject"),
        ("Slow", "POST /q", "pace"),
        ("Wrong", "POST /r", "reject"),
    )
)
CUT, SLOW, WRONG, BY_HAND = ("hog", "POST /p"), ("hog", "POST /q"), ("hog", "POST /r"), (
    "hand", "POST /p",
)  # fmt: skip


def until(holds, most_s=30.0):
    """Wait for something to be true; its value."""
    ends_s = time.monotonic() + most_s
    while not (found := holds()):
        assert time.monotonic() < ends_s, "it never came to that"
        time.sleep(POLL_S)
    return found


class Client:
    """One instance of ``shop`` that asks every 10 ms whether each user's call may run.

    Attributes:
        log: (monotonic seconds, user and call, decision).
    """

    def __init__(self, port: int) -> None:
        self.table = BreakerTable("shop", instance=lambda: "i-1")
        self.watch = Watch(
            f"http://127.0.0.1:{port}", self.table, SystemClock(),
            service="shop", instance=lambda: "i-1", workers=4,
        )  # fmt: skip
        self.log = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stopping.wait(POLL_S):
            for key in (CUT, SLOW, WRONG, BY_HAND):
                now_s = time.monotonic()
                self.log.append((now_s, key, self.table.decide(*key, now_s)))

    @contextlib.contextmanager
    def following(self):
        self.watch.start()
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join()
            self.watch.stop()

    @property
    def epoch(self) -> int:
        return self.table.at.epoch if self.table.at else 0

    def holds(self) -> dict:
        """Entry ids by user and call."""
        return {(entry.user, entry.call): entry.id for entry in self.table.entries}

    def of(self, key, since_s: float):
        """What it decided on one user's call from some moment on."""
        log = list(self.log)
        return [(at_s, one) for at_s, asked, one in log if asked == key and at_s >= since_s]


@pytest.fixture
def start(tmp_path):
    """Start a collector on the folder; each has the same port."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run():
        flags = ("--http", f"127.0.0.1:{port}", "--mode", "protect", "--cold-start-s", "0")
        return collector_process(tmp_path / "data", *flags, "--rules", str(rules))

    run.port = port
    run.folder = tmp_path / "data"
    return run


def refuse(folder, times: int) -> None:
    """Write records of refusals to the audit, the newest there are."""
    row = {
        "change": "refused", "entry_id": "", "issuer": "rule:HarmfulUser", "reason": "r",
        "version": "1.1", "entry": json.dumps({"user": "hand", "service": "shop"}),
    }  # fmt: skip
    now_ns = time.time_ns()
    rows = [{**row, "at_ns": now_ns + number} for number in range(times)]
    store = DuckDBStore(folder)
    store.record({"audit": pa.Table.from_pylist(rows, schema=AUDIT)})
    store.close()


def left_s(folder) -> dict[str, float]:
    """Seconds that each entry is held for, by its id, as the file says."""
    now_ns = time.time_ns()
    return {
        one["entry"]["id"]: one["hold_s"] - (now_ns - one["granted_ns"]) / 1e9
        for one in StateFile(folder).read().control["held"]
    }


def test_a_client_sees_no_gap_and_nothing_that_was_cleared_over_kills(start):
    with Client(start.port).following() as client:
        with start() as collector:
            by_hand = collector.trip("hand")
            wrong = until(lambda: collector.held().get(WRONG))
            collector.clear(wrong)
            collector.clear(collector.trip("hand", call="POST /cleared"))
            until(lambda: client.holds().keys() == {CUT, SLOW, BY_HAND})
            began_s, before, epochs = time.monotonic(), client.holds(), [client.epoch]
            assert before[BY_HAND] == by_hand
            lefts = left_s(start.folder)
            collector.process.kill()
        for refusals in (0, 10_000):
            if refusals:
                refuse(start.folder, refusals)
            with start() as collector:
                until(lambda: client.epoch > epochs[-1])
                epochs.append(client.epoch)
                assert client.holds() == before
                took_s = time.monotonic() - began_s
                assert left_s(start.folder)[by_hand] == pytest.approx(
                    lefts[by_hand] - took_s, abs=0.5
                )
                time.sleep(2.0)  # some rounds, in which the rule that was wrong asks again
                assert client.holds() == collector.held() == before
                changes = collector.ask("GET", "/api/audit?limit=50")["changes"]
                assert {"restored"} <= {one["change"] for one in changes}
                collector.process.kill()
    assert not [at_s for at_s, one in client.of(CUT, began_s) if one.allowed]
    assert not [at_s for at_s, one in client.of(BY_HAND, began_s) if one.allowed]
    assert all(one.allowed for _, one in client.of(WRONG, began_s))
    paced = client.of(SLOW, began_s)
    assert {one.reason for _, one in paced} <= {Reason.PACED, Reason.BEYOND_PACE}
    assert {one.entry.mode for _, one in paced} == {BreakerMode.PACE}
    gaps = [later - at for (at, _), (later, _) in itertools.pairwise(paced)]
    assert max(gaps) < 1.0, "the client looked away"


def asks(act, *args) -> threading.Thread:
    """Ask a collector that may be killed before it answers."""

    def run():
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            act(*args)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_what_a_client_heard_the_moment_before_the_kill_is_held_on_or_stays_cleared(start):
    """Whether or not whoever asked for it was answered."""
    first, second = ("u-1", "POST /p"), ("u-2", "POST /p")
    heard = {}
    with Client(start.port).following() as client:
        for key in (first, second):
            with start() as collector:
                assert heard.items() <= collector.held().items()
                asking = asks(collector.trip, key[0])
                until(lambda: key in client.holds())  # noqa: B023 - called at once
                heard[key] = client.holds()[key]
                collector.process.kill()
                asking.join()
        with start() as collector:
            asking = asks(collector.clear, heard[first])
            until(lambda: first not in client.holds())
            collector.process.kill()
            asking.join()
        with start() as collector:
            held = collector.held()
            assert first not in held
            assert held[second] == heard[second]


def test_a_damaged_file_is_set_aside_and_the_collector_protects_all_the_same(start):
    with start() as collector:
        epoch = collector.ask("GET", "/v1/breakers")["epoch"]
        collector.trip("hand")
        collector.process.kill()
    file = StateFile(start.folder)
    file.path.write_bytes(file.path.read_bytes()[:-20])
    with start() as collector:
        state = collector.ask("GET", "/v1/breakers")
        assert state["epoch"] > epoch
        assert BY_HAND not in collector.held()
        assert (start.folder / "breakers.unreadable.json").exists()
        collector.trip("hand")
        assert collector.ask("GET", "/readyz")["notes"] == []


def test_the_epoch_grows_though_the_disk_lost_the_store_and_the_clock_was_set_back(start):
    """The file of breakers remembers it, too."""
    with start() as collector:
        collector.process.kill()
    file = StateFile(start.folder)
    ahead = file.read().epoch + 1_000_000
    file.write(file.read()._replace(epoch=ahead))
    for path in start.folder.glob("heatshield.duckdb*"):
        path.unlink()
    with start() as collector:
        assert collector.ask("GET", "/v1/breakers")["epoch"] == ahead + 1


def test_breakers_hold_where_the_file_can_t_be_written_and_readiness_says_so(start):
    with start() as collector:
        file = StateFile(start.folder)
        blocked = start.folder / f".{file.path.name}"
        blocked.mkdir()
        began_s = time.monotonic()
        collector.trip("hand")
        assert BY_HAND in collector.held()
        assert time.monotonic() - began_s < 5.0
        (note,) = collector.ask("GET", "/readyz")["notes"]
        assert "a restart would forget the latest" in note
        blocked.rmdir()
        until(lambda: not collector.ask("GET", "/readyz")["notes"])
        assert BY_HAND[0] in {one["entry"]["user"] for one in file.read().control["held"]}
