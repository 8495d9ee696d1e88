"""Do the clients' own logs show that the protocol's invariants held? Each by its number.

Pure: lists of records in, verdicts out. Times are the machine's monotonic seconds, which all
processes share, but for what is compared with the collector's audit: seconds since the Unix epoch.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from breaker_fleet.records import Grant, Record
from heatshield.contract import RAMP_S, StateVersion

__all__ = [
    "Closed", "Silence", "Thrown", "Verdict", "agreement", "closing", "enforced_means_granted",
    "gaps", "kill_switches", "probes", "reach", "refused_did_not_run", "silences", "table",
    "versions", "what_was_said",
]  # fmt: skip

SLACK_S = 0.25
"""Between a decision and the line about it, on a machine that does much else."""

Logs = Sequence[Sequence[Record]]


@dataclass(slots=True)
class Verdict:
    """What became of one invariant.

    Attributes:
        invariant: number and name.
        looked_at: how many facts were compared.
        troubles: what is wrong.
    """

    invariant: str
    looked_at: int = 0
    troubles: list[str] = field(default_factory=list)

    def check(self, holds: bool, trouble: str) -> None:  # noqa: FBT001  # reads as a sentence
        """Count a fact, and note it if it does not hold."""
        self.looked_at += 1
        if not holds:
            self.troubles.append(trouble)


@dataclass(frozen=True, slots=True)
class Silence:
    """These clients could not hear the collector from ``from_s`` to ``until_s``."""

    clients: Sequence[int]
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Thrown:
    """A client's kill switch was thrown from ``from_s`` to ``until_s``."""

    client: int
    from_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """Demand of a user ended at ``from_s``, and nobody is to refuse the user after ``until_s``."""

    user: str
    from_s: float
    until_s: float


def enforced_means_granted(logs: Logs, granted: Mapping[str, Grant]) -> Verdict:
    """1: who is refused is refused by an entry for exactly that key, not after lease and ramp."""
    verdict = Verdict("1 enforced means granted")
    for client, log in enumerate(logs):
        for one in log:
            if not one.refused:
                continue
            grant = granted.get(one.fields["entry"])
            if grant is None:
                verdict.check(False, f"client {client} enforces {one.fields['entry']!r}: unknown")
                continue
            user, call = one.key
            is_its = (user, call) == (grant.key[0], grant.key[2])
            verdict.check(is_its, f"client {client} refuses {one.key} by {grant.key}")
            began = one.ns >= grant.from_ns - SLACK_S * 1e9
            verdict.check(began, f"client {client} refuses {user} before the grant")
            if grant.until_ns is not None:
                late_s = (one.ns - grant.until_ns) / 1e9 - grant.lease_s - RAMP_S
                verdict.check(late_s < SLACK_S, f"client {client} refuses {user} {late_s:g} s late")
    return verdict


def silences(logs: Logs, found: Iterable[Silence]) -> Verdict:
    """2: whoever hears nothing enforces nothing once lease and ramp are over."""
    verdict = Verdict("2 silence ends enforcement")
    for silence in found:
        for client in silence.clients:
            for one in logs[client]:
                if one.refused and silence.from_s < one.at < silence.until_s:
                    late_s = one.at - silence.from_s - one.fields["lease_s"] - RAMP_S
                    verdict.check(
                        late_s < SLACK_S, f"client {client} still refuses {late_s:g} s late"
                    )
    return verdict


def versions(logs: Logs) -> Verdict:
    """3: a client's version never goes back."""
    verdict = Verdict("3 versions never go back")
    for client, log in enumerate(logs):
        held = [one.version for one in log if one.what == "applied" and one.version is not None]
        for before, after in itertools.pairwise(held):
            verdict.check(before <= after, f"client {client} went from {before} to {after}")
    return verdict


def what_was_said(logs: Logs) -> Verdict:
    """4: a delta is applied to its base alone, and clients at one version hold the same."""
    verdict = Verdict("4 deltas meet their base")
    said: dict[StateVersion, Any] = {}
    for client, log in enumerate(logs):
        for one in log:
            if one.what != "applied" or one.fields["done"] != "changed" or one.version is None:
                continue
            base, before = one.fields["base"], one.fields["before"]
            verdict.check(base in ("", before), f"client {client}: {base} applied to {before}")
            holds = (one.fields["mode"], sorted(one.fields["held"]))
            same = said.setdefault(one.version, holds) == holds
            verdict.check(same, f"client {client} holds something else at {one.version}")
    return verdict


def agreement(
    logs: Logs, quiet: Iterable[tuple[float, StateVersion]], within_s: float = 5.0
) -> Verdict:
    """5: so long after the last change and fault, each client is at the collector's version.

    Args:
        logs: of the clients.
        quiet: since when it was quiet, and the collector's version then.
        within_s: seconds.
    """
    verdict = Verdict("5 quiet and connected: agreed")
    for since_s, version in quiet:
        for client, log in enumerate(logs):
            at = None
            for one in log:
                if one.what == "applied" and one.at <= since_s + within_s:
                    at = one.version
            verdict.check(at == version, f"client {client} is at {at}, the collector at {version}")
    return verdict


def probes(logs: Logs) -> Verdict:
    """7: of one key, the fleet lets no more probes through in any second than the quota."""
    verdict = Verdict("7 probes keep their quota")
    by_key: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for one in itertools.chain.from_iterable(logs):
        if one.what == "decision" and one.fields["reason"] == "probed":
            by_key[one.key].append(one)
    for key, found in by_key.items():
        found.sort(key=lambda one: one.at)
        for number, one in enumerate(found):
            second = [other for other in found[number:] if other.at < one.at + 0.999]
            quota = max(1.0, *(other.fields["probe_per_s"] for other in second), 1.0)
            verdict.check(len(second) <= quota, f"{len(second)} probes of {key}; quota {quota:g}")
    return verdict


def refused_did_not_run(logs: Logs) -> Verdict:
    """8: what was refused did not run, and what ran was let through."""
    verdict = Verdict("8 what is refused does not run")
    for client, log in enumerate(logs):
        refused = {one.fields["number"] for one in log if one.refused}
        for one in log:
            if one.what == "ran":
                number = one.fields["number"]
                verdict.check(number not in refused, f"client {client} ran {number}, refused")
    return verdict


def kill_switches(logs: Logs, thrown: Iterable[Thrown], within_s: float = 1.0) -> Verdict:
    """10: a second after its kill switch is thrown a client refuses nothing."""
    verdict = Verdict("10 the kill switch stops all")
    for switch in thrown:
        for one in logs[switch.client]:
            if one.what == "decision" and switch.from_s + within_s < one.at < switch.until_s:
                verdict.check(not one.refused, f"client {switch.client} refuses {one.key}")
    return verdict


def closing(logs: Logs, closed: Iterable[Closed]) -> Verdict:
    """15: once demand is gone the breaker closes, in the end."""
    verdict = Verdict("15 demand gone, closed")
    for end in closed:
        late = [
            one
            for one in itertools.chain.from_iterable(logs)
            if one.refused and one.fields["user"] == end.user and one.at > end.until_s
        ]
        verdict.check(not late, f"{end.user} is still refused: {len(late)} times")
    return verdict


def gaps(
    logs: Logs, key: tuple[str, str], from_s: float, until_s: float, most_s: float = 1.0
) -> Verdict:
    """While a key is held and asked for, no client lets it through for longer than so long."""
    verdict = Verdict("held on without a gap")
    for client, log in enumerate(logs):
        times = [one.at for one in log if one.refused and one.key == key]
        inside = [at for at in times if from_s <= at <= until_s]
        for before, after in itertools.pairwise([from_s, *inside, until_s]):
            gap_s = after - before
            verdict.check(gap_s <= most_s, f"client {client} let {key} through for {gap_s:g} s")
    return verdict


def reach(logs: Logs, entry_id: str) -> list[float | None]:
    """When each client had an entry: its first ``applied`` that holds it; since the epoch."""
    found: list[float | None] = []
    for log in logs:
        holds = (
            one.ns / 1e9
            for one in log
            if one.what == "applied" and any(row[0] == entry_id for row in one.fields["held"])
        )
        found.append(next(holds, None))
    return found


def table(verdicts: Iterable[Verdict]) -> str:
    """The verdicts for people; those of one invariant in one line."""
    sums: dict[str, Verdict] = {}
    for one in verdicts:
        sum_ = sums.setdefault(one.invariant, Verdict(one.invariant))
        sum_.looked_at += one.looked_at
        sum_.troubles += one.troubles
    lines = [f"{'invariant':34} {'facts':>8}  troubles"]
    for one in sums.values():
        first = f": {one.troubles[0]}" if one.troubles else ""
        lines.append(f"{one.invariant:34} {one.looked_at:8}  {len(one.troubles)}{first}")
    return "\n".join(lines)
