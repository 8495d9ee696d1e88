"""What a detector is, and what it may draw on.

A detector takes in linked batches as they arrive and says, when asked, what it finds: four times a
second, or at once after a batch that it called urgent. It decides from what it was handed alone; it
looks at no clock, draws nothing at random and does no I/O. Loads, baselines and evidence are kept
once for all detectors; what one detector alone needs it keeps itself, in bounded memory. One that
reads charge reports is a :class:`ReportReader` or a :class:`PairReader`, too.

A new detector is one file beside this one and one row in ``detection.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from heatshield.charge_report import ChargeReport
from heatshield.clock import Instant
from heatshield.declared_limit import DeclaredLimit
from heatshield_collector.detect.evidence import Evidence
from heatshield_collector.detect.findings import Finding
from heatshield_collector.detect.loads import Loads
from heatshield_collector.link import Linked
from heatshield_collector.link.reported import Reported

__all__ = ["Capacity", "Detector", "PairReader", "ReportReader", "Sources"]

Capacity = Callable[[str], float]
"""The workers of a service, from its live instances that send spans."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What detectors share.

    Attributes:
        loads: costs per second by user and call, over windows, with baselines.
        evidence: recent requests of each key: the worst, a typical one and the latest.
        capacity: the workers of a service.
        seed: of whatever hash a detector keeps counters by. The same seed gives the same findings;
            senders must not know it.
        limits: what operators have declared, as it stands now.
    """

    loads: Loads
    evidence: Evidence
    capacity: Capacity
    seed: int = 0
    limits: Callable[[], Sequence[DeclaredLimit]] = tuple


@runtime_checkable
class Remembers(Protocol):
    """A detector with a memory that is worth keeping over a restart."""

    kept_as: str
    """Names its part of what is kept; never changed."""

    def state(self, instant: Instant) -> bytes:
        """What it remembers, in bounded size. Called twice a minute, while nothing is observed: a
        few milliseconds at most.
        """
        ...

    def restore(self, state: bytes, age_s: float, instant: Instant) -> None:
        """Go on with what an earlier process remembered; before anything is observed.

        Args:
            state: what :meth:`state` gave.
            age_s: seconds since then.
            instant: the time.

        Raises:
            ValueError: if it can't be read; then it begins as new.
        """
        ...


class Detector(Protocol):
    """Finds one kind of trouble. Not thread-safe: :class:`Detection` calls one method at a time."""

    def observe(self, linked: Linked, instant: Instant) -> bool:
        """Take in a batch; the shared loads have it already.

        Args:
            linked: a batch with at least one charge.
            instant: when it was received; never before the last one.

        Returns:
            Whether the batch alone may be reason for a finding, so that evaluation should not wait
            for its turn.
        """
        ...

    def evaluate(self, instant: Instant) -> Sequence[Finding]:
        """What stands out at this moment; at most one finding a key.

        Asked twice at one moment it says the same, in the same order.
        """
        ...


@runtime_checkable
class ReportReader(Protocol):
    """A detector that reads charge reports one by one."""

    def report(self, report: ChargeReport, instant: Instant) -> bool:
        """Take in a report that has not come before; the shared loads have it already.

        Returns:
            As :meth:`Detector.observe`.
        """
        ...


@runtime_checkable
class PairReader(Protocol):
    """A detector that reads the pairs of charge reports, of all that came together."""

    def pairs(self, reported: Reported, instant: Instant) -> bool:
        """Take in pairs of reports that have not come before; the shared loads have them already.

        Returns:
            As :meth:`Detector.observe`.
        """
        ...
