"""The life of findings: detectors say four times a second what stands out, people hear of it once.

::

    not there ──opened──→ open ──changed──→ open ──closed──→ not there
                           │                                     ↑
                           └──── not seen for QUIET_S seconds ───┘

- *Opened*: a detector says it for the first time, or again after :data:`QUIET_S` without it.
- *Changed*: its class or what it suggests is another. What gets worse is told at once. What gets
  better is told once it has been better for :data:`QUIET_S`, so that harm that comes and goes is
  one finding, and not a dozen.
- *Closed*: no detector has said it for :data:`QUIET_S`.

A user who is hot on a call, and harms others there a moment later, is one finding whose class has
changed. A user may have a finding of another kind on the same call beside it (heavy, budget); an
overload is one of its resource.

Pure: it is handed findings and the moment, and returns what is to be told. One thread takes
findings in; any thread may read :attr:`FindingBook.open` and :meth:`FindingBook.about`.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import Finding

__all__ = ["CHANGES", "OPEN_MOST", "QUIET_S", "FindingBook", "FindingRecord", "Told", "gravity"]

QUIET_S: Final = 10.0
"""A finding that comes back sooner is the same finding; and one that has been better for so long
is told to be so. As long as the longest window that a detector looks at."""

OPEN_MOST: Final = 1_000
"""Findings that are open at once. Beyond, the mildest make room for graver ones."""

TRACES: Final = 3

GRAVITY: Final = {"heavy": 0, "hot": 1, "budget": 2, "overload": 3, "harmful": 4}
_ACTIONS: Final = {"none": 0, "pace": 1, "reject": 2}

_KIND: Final = {"hot": "burns", "harmful": "burns"}
"""Classes that are one finding: burning is first unusual, then harmful."""

Change = Literal["opened", "changed", "closed"]
CHANGES: Final[tuple[Change, ...]] = ("opened", "changed", "closed")


def gravity(finding: Finding) -> tuple[int, int]:
    """Orders findings by how grave they are: by class, then by what they suggest."""
    return GRAVITY[finding.klass], _ACTIONS[finding.action]


class _Name(NamedTuple):
    """What is one finding."""

    kind: str
    key: CallKey | None
    resource: str

    @classmethod
    def of(cls, finding: Finding) -> "_Name":
        if finding.klass == "overload":
            # Of all its calls a resource names the one that is harmed most, which may be another
            # in each round.
            return cls("overload", None, finding.resource or finding.key.service)
        return cls(_KIND.get(finding.klass, finding.klass), finding.key, "")


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """A finding with its life.

    Attributes:
        id: ``f-<epoch>-<number>``; no two are named alike, not after a restart either.
        finding: as a detector said it last, when it was as grave as it counts now.
        worst: as it was at its gravest; of equally grave moments, that of the highest load.
        worst_ns: when, as all its times in nanoseconds since the Unix epoch.
        opened_ns: when it was found.
        updated_ns: when a detector said it last.
        closed_ns: when it was over; ``None``: it is open.
        seen_s: when a detector said it last, monotonic seconds.
        grave_s: when a detector last said it as grave as it counts now.
    """

    id: str
    finding: Finding
    worst: Finding
    worst_ns: int
    opened_ns: int
    updated_ns: int
    seen_s: float
    grave_s: float
    closed_ns: int | None = None

    @classmethod
    def opened(cls, finding_id: str, finding: Finding, now: Instant) -> "FindingRecord":
        """A finding that a detector says for the first time."""
        at_s, at_ns = now
        return cls(finding_id, finding, finding, at_ns, at_ns, at_ns, at_s, at_s)

    def seen(self, finding: Finding, now: Instant) -> "FindingRecord":
        """As it is once a detector says it again."""
        at_s, at_ns = now
        worst, worst_ns = self.worst, self.worst_ns
        if (gravity(finding), finding.load) > (gravity(worst), worst.load):
            worst, worst_ns = finding, at_ns
        stands, grave_s = self.finding, self.grave_s
        if gravity(finding) >= gravity(stands) or at_s - grave_s > QUIET_S:
            traces = [*worst.trace_ids[:1], *finding.trace_ids[1:], *finding.trace_ids[:1]]
            ids = list(dict.fromkeys(traces))[:TRACES]
            stands, grave_s = replace(finding, trace_ids=ids), at_s
        return replace(
            self, finding=stands, worst=worst, worst_ns=worst_ns, updated_ns=at_ns,
            seen_s=at_s, grave_s=grave_s,
        )  # fmt: skip

    def to_json(self, at_ns: int) -> dict[str, Any]:
        """As the API, its events and the journal have it.

        Args:
            at_ns: when it is told, nanoseconds since the Unix epoch.
        """
        one, worst = self.finding, self.worst
        return {
            "id": self.id,
            "class": one.klass,
            "action": one.action,
            "user": one.key.user,
            "service": one.key.service,
            "call": one.key.call,
            "resource": one.resource,
            "cost": one.cost,
            "window": one.window,
            "load": one.load,
            "baseline": one.baseline,
            "reason": one.reason,
            "at_ns": at_ns,
            "opened_ns": self.opened_ns,
            "updated_ns": self.updated_ns,
            "closed_ns": self.closed_ns,
            "trace_ids": list(one.trace_ids),
            "figures": dict(one.figures),
            "thresholds": dict(one.thresholds),
            "victims": _victims(one),
            "worst": {
                "at_ns": self.worst_ns,
                "class": worst.klass,
                "action": worst.action,
                "load": worst.load,
                "reason": worst.reason,
                "figures": dict(worst.figures),
                "victims": _victims(worst),
            },
        }


def _victims(finding: Finding) -> dict[str, Any] | None:
    if finding.victims is None:
        return None
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(finding.victims).items()
    }


class Told(NamedTuple):
    """Something that happened to a finding."""

    change: Change
    record: FindingRecord


class FindingBook:
    """Keeps the findings that are open, in bounded memory.

    Args:
        epoch: of this collector, higher than at any earlier start.

    Attributes:
        open: the open findings, in the order in which they were opened.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._numbers = itertools.count(1)
        self._open: dict[_Name, FindingRecord] = {}
        self._of_user: dict[tuple[str | None, str], list[FindingRecord]] = {}
        self.open: tuple[FindingRecord, ...] = ()

    def take(self, findings: Iterable[Finding], now: Instant) -> list[Told]:
        """Take in what detectors say at a moment, and return what has happened."""
        quiet = [
            name for name, record in self._open.items() if now.monotonic_s - record.seen_s > QUIET_S
        ]
        told = [self._close(name, now) for name in quiet]
        for name, finding in _gravest(findings).items():
            told += self._note(name, finding, now)
        self._publish()
        return told

    def close_all(self, now: Instant) -> list[Told]:
        """Close what is open: the collector stops, and nobody will say it any more."""
        told = [self._close(name, now) for name in list(self._open)]
        self._publish()
        return told

    def _publish(self) -> None:
        of_user: dict[tuple[str | None, str], list[FindingRecord]] = {}
        for record in self._open.values():
            key = record.finding.key
            of_user.setdefault((key.user, key.service), []).append(record)
        self._of_user, self.open = of_user, tuple(self._open.values())

    def _note(self, name: _Name, finding: Finding, now: Instant) -> Iterator[Told]:
        known = self._open.get(name)
        if known is not None:
            record = self._open[name] = known.seen(finding, now)
            if gravity(record.finding) != gravity(known.finding):
                yield Told("changed", record)
            return
        if len(self._open) >= OPEN_MOST:
            mildest = min(self._open, key=self._mildness)
            if gravity(self._open[mildest].finding) >= gravity(finding):
                return
            yield self._close(mildest, now)
        finding_id = f"f-{self._epoch}-{next(self._numbers)}"
        record = self._open[name] = FindingRecord.opened(finding_id, finding, now)
        yield Told("opened", record)

    def _mildness(self, name: _Name) -> tuple[tuple[int, int], float]:
        record = self._open[name]
        return gravity(record.finding), record.seen_s

    def _close(self, name: _Name, now: Instant) -> Told:
        return Told("closed", replace(self._open.pop(name), closed_ns=now.epoch_ns))

    def about(self, key: CallKey, resource: str = "") -> FindingRecord | None:
        """The gravest open finding of a user on a call, or of an overloaded resource.

        Args:
            key: the user and call; without a call, any call of the service.
            resource: of an overload; empty: any.
        """
        found = [
            one
            for one in self._of_user.get((key.user, key.service), ())
            if (not key.call or one.finding.key.call == key.call or key.user is None)
            and (not resource or one.finding.resource == resource)
        ]
        return max(found, key=lambda one: (gravity(one.finding), one.finding.load), default=None)


def _gravest(findings: Iterable[Finding]) -> dict[_Name, Finding]:
    """One finding a name."""
    found: dict[_Name, Finding] = {}
    for one in findings:
        name = _Name.of(one)
        known = found.get(name)
        if known is None or (gravity(one), one.load) > (gravity(known), known.load):
            found[name] = one
    return found
