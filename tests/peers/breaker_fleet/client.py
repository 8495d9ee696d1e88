"""One client: heatshield without a web framework, and a log of all that it decides.

``python client.py ENDPOINT NAME LOG`` reads commands from its standard input, JSON objects, one a
line, and answers each with a line:

- ``{"ask": [[USER, CALL], …], "every_s": 0.02}``: ask the gate about these, again and again.
- ``{"hot": [USER, CALL], "work_s": 0.06, "wait_s": 0.05, "threads": 1}``: be a user who calls a
  guard that takes so long as soon as it may, and so much later when it was refused; ``null``: stop.

The log has JSON objects, one a line, each with ``at``, the machine's monotonic seconds, and ``ns``,
since the Unix epoch:

- ``began``: the instance's id.
- ``applied``: the table's version after each snapshot or delta, and what it holds.
- ``decision``: what the table said of one call. One that is not about an entry is written only
  where the one before it about the same call was.
- ``ran``: the guarded call of the decision with that number has run.
"""

import itertools
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import heatshield
from heatshield.breakers.decision import Decision
from heatshield.breakers.gate import GATE
from heatshield.breakers.lease_table import Applied, BreakerTable
from heatshield.contract import BreakerEntry, Delta, Snapshot
from heatshield.runtime import status

SERVICE: Final = "fleet"
USUAL_CALL: Final = "look"
USUAL_EVERY_S: Final = 2.0
USUAL_USERS: Final = 40
"""Of each client: rules may cut a hundredth of the users there are."""


class Log:
    """A file of JSON objects, one a line; a line is there as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def write(self, what: str, **fields: Any) -> None:
        """Write a line. Threads may, each line is one write."""
        moment = {"what": what, "at": time.monotonic(), "ns": time.time_ns()}
        self._file.write(json.dumps(moment | fields) + "\n")


class Recorder:
    """Writes down what a table applies and decides, from in front of its methods."""

    def __init__(self, table: BreakerTable, log: Log) -> None:
        self._table, self._log = table, log
        self._apply, self._decide = table.apply, table.decide
        self._numbers = itertools.count(1)
        self._here = threading.local()
        self._about_entries: set[tuple[str | None, str]] = set()
        table.apply = self.apply
        table.decide = self.decide

    @property
    def number(self) -> int:
        """Of this thread's last decision; 0 before one: where nothing is tripped, none is asked."""
        return int(getattr(self._here, "number", 0))

    def apply(self, change: Snapshot | Delta, sent_at: float) -> Applied:
        """As the table's."""
        before = self._table.at
        done = self._apply(change, sent_at)
        if done is Applied.CHANGED or done is Applied.GAP:
            self._log.write(
                "applied",
                version=str(self._table.at),
                before=str(before or ""),
                base=str(change.base) if isinstance(change, Delta) else "",
                done=done.value,
                mode=self._table.mode.value,
                held=[_held(entry) for entry in self._table.entries],
            )
        return done

    def decide(self, user: str | None, call: str, now: float, *more: Any, **named: Any) -> Decision:
        """As the table's."""
        version = self._table.at
        decision = self._decide(user, call, now, *more, **named)
        self._here.number = next(self._numbers)
        entry, key = decision.entry, (user, call)
        if entry is None and key not in self._about_entries:
            return decision
        (self._about_entries.discard if entry is None else self._about_entries.add)(key)
        self._log.write(
            "decision",
            number=self._here.number,
            version=str(version or ""),
            user=user,
            call=call,
            allowed=decision.allowed,
            reason=decision.reason.value,
            entry=entry.id if entry else "",
            mode=entry.mode.value if entry else "",
            lease_s=entry.lease_ms / 1_000 if entry else 0.0,
            probe_per_s=entry.probe_per_s if entry else 0.0,
        )
        return decision


def _held(entry: BreakerEntry) -> list[Any]:
    """All that a client acts on."""
    key = [entry.id, entry.user, entry.service, entry.call, entry.mode.value]
    return [*key, entry.lease_ms, entry.prober, entry.probe_per_s, entry.budget, entry.seq]


class Client:
    """What the process does."""

    def __init__(self, endpoint: str, name: str, log: Path) -> None:
        heatshield.instrument(service=SERVICE, endpoint=endpoint, metrics_interval_s=0.0)
        table = GATE._table
        assert table is not None
        self._name = name
        self._log = Log(log)
        self._recorder = Recorder(table, self._log)
        self._asked: list[tuple[str, str]] = []
        self._every_s = 0.02
        self._hot: dict[str, Any] = {}

    def run(self) -> None:
        """Obey commands until there are no more."""
        self._look()  # a process follows breakers once it works
        self._log.write("began", instance=status()["instance"])
        for work in (self._ask, self._look_on):
            threading.Thread(target=work, daemon=True).start()
        _say("ready")
        for line in sys.stdin:
            self._obey(json.loads(line))
            _say("done")

    def _obey(self, command: dict[str, Any]) -> None:
        if "ask" in command:
            self._every_s = command.get("every_s", 0.02)
            self._asked = [(user, call) for user, call in command["ask"]]
        if "hot" in command:
            self._hot = hot = command if command["hot"] else {}
            for _ in range(command.get("threads", 1) if hot else 0):
                threading.Thread(target=self._burn, args=(hot,), daemon=True).start()

    def _ask(self) -> None:
        while True:
            for user, call in self._asked:
                GATE.refusal(call, user)
            time.sleep(self._every_s)

    def _burn(self, hot: dict[str, Any]) -> None:
        """One connection of a hot user. Sleeping costs as much as computing, to who measures."""
        user, call = hot["hot"]
        self._log.write("hot", user=user, call=call)
        while self._hot is hot:
            try:
                with heatshield.user(user), heatshield.guard(call):
                    self._log.write("ran", number=self._recorder.number, user=user, call=call)
                    time.sleep(hot.get("work_s", 0.06))
            except heatshield.BreakerOpen:
                time.sleep(hot.get("wait_s", 0.05))

    def _look_on(self) -> None:
        while True:
            time.sleep(USUAL_EVERY_S)
            self._look()

    def _look(self) -> None:
        """An ordinary user does something that costs nothing."""
        user = f"{self._name}-{int(time.monotonic()) % USUAL_USERS}"
        with heatshield.user(user), heatshield.guard(USUAL_CALL):
            pass


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Client(sys.argv[1], sys.argv[2], Path(sys.argv[3])).run()
