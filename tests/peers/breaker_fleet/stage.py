"""One collector, a fleet of clients behind proxies, and the facts that an audit needs."""

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from breaker_fleet import audit
from breaker_fleet.certificate import localhost_certificate
from breaker_fleet.fleet import SERVICE, Fleet
from breaker_fleet.proxy import Proxies
from breaker_fleet.records import Record, grants
from collector_process import CollectorProcess, collector_process
from heatshield.cli.local_token import local_token
from heatshield.contract import StateVersion

__all__ = ["CLIENTS", "Stage"]

RULES: Final = """
groups:
  - name: burners
    interval: 250ms
    rules:
      - alert: Burns
        expr: max by (user, service, call) (heatshield_finding{class="hot"}) > 0
        keep_firing_for: 5s
        labels: {heatshield_action: trip, heatshield_mode: pace}
      - alert: BurnsOn
        expr: max by (user, service, call) (heatshield_finding{class="hot"}) > 0
        for: 2s
        keep_firing_for: 5s
        labels: {heatshield_action: trip, heatshield_mode: reject}
"""
"""Nobody waits for the user who burns here, and the shipped rule acts only where others are harmed:
these go by the load alone."""

CLIENTS: Final = 20
AGREE_S: Final = 5.0
WAIT_S: Final = 20.0


class Stage:
    """Everything that runs.

    Args:
        folder: an empty one.
        secure: how many clients speak TLS to what is in front of the collector.

    Attributes:
        facts: what was done, for the audit.
    """

    def __init__(self, folder: Path, secure: int = CLIENTS // 2) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._audited: dict[tuple[Any, ...], Any] = {}
        self.silences: list[audit.Silence] = []
        self.thrown: list[audit.Thrown] = []
        self.closed: list[audit.Closed] = []
        self.quiet: list[tuple[float, StateVersion]] = []
        self.verdicts: list[audit.Verdict] = []
        certificate, context = localhost_certificate(folder) if secure else (None, None)
        self.proxies = Proxies([context] * secure + [None] * (CLIENTS - secure))
        self.start()
        strange = ("HEATSHIELD_", "OTEL_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        # The user who burns sleeps, as twenty clients share a machine: spans count that as work.
        environment["HEATSHIELD_CHARGE_REPORTS"] = "false"
        if certificate is not None:
            environment["SSL_CERT_FILE"] = str(certificate)
        self.fleet = Fleet(folder, [one.endpoint for one in self.proxies.each], environment)
        self.fleet.wait_ready()
        self._began_s = time.monotonic()

    def start(self) -> None:
        """Start a collector on the data of the one before."""
        rules = self._folder / "rules.yaml"
        rules.write_text(RULES)
        flags = ("--mode", "protect", "--cold-start-s", "1", "--rules", str(rules))
        found = self._running.enter_context(collector_process(self._folder / "data", *flags))
        self.collector: CollectorProcess = found
        self.proxies.aim(found.host, found.port)

    def kill(self) -> float:
        """``kill -9`` the collector; when that was."""
        self.keep_audit()
        self.collector.process.kill()
        self.collector.process.wait()
        return time.monotonic()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The collector is stopped where it is."""
        self.collector.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.collector.process.send_signal(signal.SIGCONT)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask the collector itself, not through a proxy."""
        url = self.collector.url
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {local_token(url)}",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def trip(self, user: str, call: str = "work", lease_s: float = 600.0) -> str:
        """Trip by hand; the entry's id."""
        wish = {"user": user, "service": SERVICE, "call": call, "by": "ada"}
        return str(self.ask("POST", "/v1/breakers", {**wish, "lease_ms": lease_s * 1_000})["id"])

    def clear(self, entry_id: str) -> None:
        """Clear by hand."""
        self.ask("DELETE", f"/v1/breakers/{entry_id}?by=ada")

    def held(self) -> dict[str, Any]:
        """The collector's entries by user."""
        return {entry["user"]: entry for entry in self.ask("GET", "/v1/breakers")["entries"]}

    @property
    def version(self) -> StateVersion:
        """The collector's."""
        state = self.ask("GET", "/v1/breakers")
        return StateVersion(state["epoch"], state["version"])

    def calm(self) -> None:
        """No faults, nobody asks, nothing is held, and all agree."""
        self.proxies.calm()
        self.fleet.resume(self.fleet.all)
        self.fleet.tell(self.fleet.all, ask=[], hot=None)
        for entry in self.held().values():
            self.clear(entry["id"])
        self.settle()

    def settle(self) -> None:
        """Nothing changes from now on: give all the time in which they must agree."""
        version = self.version
        within = "all clients are at the collector's version"
        agreed_s = self.until(lambda: self._at(version), within, AGREE_S)
        if self.version == version:  # a rule may have had its say meanwhile
            self.quiet.append((agreed_s, version))

    def _at(self, version: StateVersion) -> bool:
        logs = self.fleet.records()
        applied = [[one for one in log if one.what == "applied"] for log in logs]
        return all(log and log[-1].version == version for log in applied)

    def until(self, happened: Callable[[], Any], what: str, within_s: float = WAIT_S) -> float:
        """Wait for something, and fail if it does not come; when it was seen."""
        deadline_s = time.monotonic() + within_s
        while not happened():
            assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
            time.sleep(0.05)
        return time.monotonic()

    def refusing(self, user: str, since_s: float) -> set[int]:
        """Clients that have refused this user since then."""
        logs = self.fleet.records(since_s)
        return {
            number
            for number, log in enumerate(logs)
            if any(one.refused and one.fields["user"] == user for one in log)
        }

    def all_refuse(self, user: str, since_s: float) -> None:
        """Wait until every client has refused this user."""
        self.until(
            lambda: len(self.refusing(user, since_s)) == CLIENTS, f"all clients refuse {user}"
        )

    def records(self) -> list[list[Record]]:
        """All that the clients have written."""
        return self.fleet.records()

    def keep_audit(self) -> list[dict[str, Any]]:
        """The collector's audit so far, that of collectors before it included."""
        for row in self.ask("GET", "/api/audit?limit=1000")["changes"]:
            self._audited[row["at_ns"], row["change"], row["entry_id"]] = row
        return list(self._audited.values())

    def check(self, *more: audit.Verdict) -> None:
        """Audit all logs from the beginning, print what came of it, and fail if anything is wrong.

        Args:
            more: verdicts of the scenario itself.
        """
        logs = self.records()
        self.verdicts += more
        verdicts = [
            audit.enforced_means_granted(logs, grants(self.keep_audit())),
            audit.silences(logs, self.silences),
            audit.versions(logs),
            audit.what_was_said(logs),
            audit.agreement(logs, self.quiet, within_s=0.0),
            audit.probes(logs),
            audit.refused_did_not_run(logs),
            audit.kill_switches(logs, self.thrown),
            audit.closing(logs, self.closed),
            *self.verdicts,
        ]
        sys.stderr.write(audit.table(verdicts) + "\n")
        troubles = [f"{one.invariant}: {text}" for one in verdicts for text in one.troubles]
        assert not troubles, "\n".join(troubles[:20])

    def close(self) -> None:
        """End everything."""
        self.fleet.close()
        self.proxies.close()
        self._running.close()
