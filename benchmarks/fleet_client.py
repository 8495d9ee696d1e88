"""One client of the benchmark ``fleet``: ``python fleet_client.py ENDPOINT NAME REDIS_PORT``.

A process with heatshield's default settings, whose users ask one Redis for something cheap. It
reads commands from its standard input, one a line: ``burn USER`` has that user call something that
keeps the Redis busy, over two connections, and ``stop`` ends it. It writes JSON objects, a line
each, with ``ns`` since the Unix epoch: ``ready``; ``ran``, the first call of a user who burns; and
``applied``, the users whose entries the breaker table holds now.
"""

import json
import random
import sys
import threading
import time
from typing import Any, Final

import redis

import heatshield
from heatshield.breakers.gate import GATE
from heatshield.breakers.lease_table import Applied

SERVICE: Final = "fleet"
USERS: Final = 50
"""Ordinary users of a client."""

EVERY_S: Final = 0.1
CONNECTIONS: Final = 2
"""Of a user who burns."""

BURNS: Final = ("SUNIONSTORE", "copy", "large")
"""Some tens of milliseconds of the Redis."""

_LOCK = threading.Lock()


def say(what: str, **fields: Any) -> None:
    """Write a line."""
    line = json.dumps({"what": what, "ns": time.time_ns(), **fields})
    with _LOCK:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class Client:
    """What the process does."""

    def __init__(self, endpoint: str, name: str, port: int) -> None:
        heatshield.instrument(service=SERVICE, endpoint=endpoint)
        self._name = name
        self._redis = redis.Redis(port=port)
        self._burning = ""
        self._chance = random.Random(name)
        table: Any = GATE._table
        self._apply = table.apply
        table.apply = self._applied
        self._table = table

    def _applied(self, *change: Any) -> Applied:
        done: Applied = self._apply(*change)
        say("applied", users=[entry.user for entry in self._table.entries])
        return done

    def run(self) -> None:
        """Obey commands until there are no more."""
        self._look()
        threading.Thread(target=self._look_on, daemon=True).start()
        say("ready")
        for line in sys.stdin:
            command, _, user = line.strip().partition(" ")
            self._burning = user
            if command == "burn":
                for number in range(CONNECTIONS):
                    threading.Thread(target=self._burn, args=(user, number), daemon=True).start()

    def _look_on(self) -> None:
        while True:
            time.sleep(self._chance.expovariate(1 / EVERY_S))
            self._look()

    def _look(self) -> None:
        user = f"{self._name}-{self._chance.randrange(USERS)}"
        with heatshield.user(user), heatshield.guard("GET /cart"):
            self._redis.get("small")

    def _burn(self, user: str, number: int) -> None:
        told = number > 0
        while self._burning == user:
            try:
                with heatshield.user(user), heatshield.guard("POST /purchases"):
                    if not told:
                        told = True
                        say("ran", user=user)
                    self._redis.execute_command(*BURNS)
            except heatshield.BreakerOpen:
                time.sleep(0.05)


if __name__ == "__main__":
    Client(sys.argv[1], sys.argv[2], int(sys.argv[3])).run()
