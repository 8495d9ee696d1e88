"""The detectors in force: fed together, asked together."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield.declared_limit import DeclaredLimit
from heatshield_collector.detect.evidence import Evidence
from heatshield_collector.detect.fair_share import fair_share
from heatshield_collector.detect.findings import Finding
from heatshield_collector.detect.harm.harmful_user import HarmfulUser
from heatshield_collector.detect.heavy_user import HeavyUser
from heatshield_collector.detect.hot_user import HotRules, HotUser
from heatshield_collector.detect.kept_state import decode, encode
from heatshield_collector.detect.loads import Loads
from heatshield_collector.detect.over_budget import OverBudget
from heatshield_collector.detect.protocol import (
    Capacity,
    Detector,
    PairReader,
    Remembers,
    ReportReader,
    Sources,
)
from heatshield_collector.link import Linked
from heatshield_collector.link.reported import Reported

__all__ = ["TOO_OLD_S", "Detection", "MakesDetectors", "Profile", "all_detectors"]

_log = logging.getLogger(__name__)

TOO_OLD_S: Final = 3_600.0
"""What was usual longer ago, at another time of the day, is not what is usual now."""

_LOADS: Final = "loads"
"""The part of the baselines in what is kept."""

MakesDetectors = Callable[[Sources, HotRules], Sequence[Detector]]
"""Makes the detectors, in the order of their findings."""


def all_detectors(sources: Sources, rules: HotRules) -> list[Detector]:
    """Every detector that the collector runs, in the order of their findings."""
    return [
        HarmfulUser(sources),
        HotUser(sources, rules),
        HeavyUser(sources),
        OverBudget(sources),
    ]


class Profile(NamedTuple):
    """What is known of one user on one call.

    Attributes:
        baseline: upper bound of the user's busy load over the five minutes before.
        cost_per_call: busy seconds of one of the user's calls, over the last ten seconds.
        trace_ids: the user's worst recent request, a typical one and the latest, hexadecimal.
        fair_share: busy seconds each second that the user may go on using, when slowed.
        traffic: the user's part of the call's calls, over the last ten seconds, 0 to 1.
    """

    baseline: float
    cost_per_call: float
    trace_ids: list[str]
    fair_share: float
    traffic: float


class Detection:
    """Feeds what detectors share, then each detector; asks them all. Thread-safe.

    Args:
        capacity: the workers of a service, from its live instances.
        rules: the hot-user rules.
        detectors: makes the detectors; all of them unless a test wants others.
        seed: of hashed counters: fixed for a replay, drawn in a collector.
        limits: what operators have declared, as it stands when it is asked for.

    Attributes:
        loads: the loads that detectors share; the API and series show them, too.
    """

    def __init__(
        self,
        capacity: Capacity,
        rules: HotRules | None = None,
        detectors: MakesDetectors = all_detectors,
        seed: int = 0,
        limits: Callable[[], Sequence[DeclaredLimit]] = tuple,
    ) -> None:
        self.loads = Loads()
        self._rules = rules or HotRules()
        self._sources = Sources(self.loads, Evidence(), capacity, seed, limits)
        self._detectors = detectors(self._sources, self._rules)
        self._lock = threading.Lock()

    def observe(self, linked: Linked, instant: Instant) -> bool:
        """Take in a batch that was received at ``instant``.

        Returns:
            Whether a detector wants to be asked at once, because a user may be hot.
        """
        if not linked.charges.num_rows:
            return False
        with self._lock:
            self.loads.observe(linked, instant.monotonic_s)
            urgent = [detector.observe(linked, instant) for detector in self._detectors]
        return any(urgent)

    def report(self, reported: Reported, instant: Instant) -> bool:
        """Take in charge reports that have not come before, received at ``instant``.

        Returns:
            Whether a detector wants to be asked at once.
        """
        urgent = False
        with self._lock:
            self.loads.report(reported, instant.monotonic_s)
            for detector in self._detectors:
                if isinstance(detector, PairReader):
                    urgent |= detector.pairs(reported, instant)
                if isinstance(detector, ReportReader):
                    for report, _ in reported.reports:
                        urgent |= detector.report(report, instant)
        return urgent

    def evaluate(self, instant: Instant) -> list[Finding]:
        """What stands out now, one finding a key and class."""
        with self._lock:
            return [one for each in self._detectors for one in each.evaluate(instant)]

    def state(self, instant: Instant) -> bytes:
        """What is worth keeping over a restart: baselines, and what detectors remember."""
        sections = {_LOADS: self.loads.state(instant.monotonic_s)}
        for detector in self._detectors:
            if isinstance(detector, Remembers):
                with self._lock:
                    sections[detector.kept_as] = detector.state(instant)
        return encode(sections)

    def restore(self, state: bytes, age_s: float, instant: Instant) -> float:
        """Go on with what an earlier process knew; before anything is observed.

        A part that can't be read is logged, and begins as new.

        Args:
            state: what :meth:`state` gave.
            age_s: seconds since then.
            instant: the time.

        Returns:
            For how many seconds what is usual has been known; 0: not all of it is.

        Raises:
            ValueError: if none of it can be read, or it is too old.
        """
        if age_s > TOO_OLD_S:
            raise ValueError(f"it is {age_s / 60:.0f} minutes old")
        sections = decode(state)
        owners: dict[str, Callable[[bytes], object]] = {
            _LOADS: lambda kept: self.loads.restore(kept, instant.monotonic_s)
        }
        for one in self._detectors:
            if isinstance(one, Remembers):
                owners[one.kept_as] = partial(one.restore, age_s=age_s, instant=instant)
        with self._lock:
            known = [self._restore(name, sections, restore) for name, restore in owners.items()]
        # A detector that trips must know what is usual, too: loads alone are not enough.
        is_known = len(known) > 1 and all(known)
        return self.loads.covered_s(instant.monotonic_s) if is_known else 0.0

    @staticmethod
    def _restore(
        name: str, sections: Mapping[str, bytes], restore: Callable[[bytes], object]
    ) -> bool:
        try:
            restore(sections[name])
        except KeyError:
            _log.info("nothing is kept of %s", name)
        except ValueError as error:
            _log.warning("what was usual is not known again: %s: %s", name, error)
        else:
            return True
        return False

    def describe(self, key: CallKey, now_s: float) -> Profile:
        """What is known of a user on a call, whether or not the user stands out."""
        return Profile(
            self.loads.baseline_of(key, now_s),
            self.loads.cost_per_call_of(key, now_s),
            self.traces_of(key),
            self.fair_share_of(key.service),
            self.loads.traffic_of(key, now_s),
        )

    def traces_of(self, key: CallKey) -> list[str]:
        """A user's worst recent request on a call, a typical one and the latest, hexadecimal."""
        return self._sources.evidence.of(key.text)

    def capacity_of(self, service: str) -> float:
        """The workers of a service."""
        return self._sources.capacity(service)

    def fair_share_of(self, service: str) -> float:
        """Busy seconds each second that one user may go on using of a service, when slowed."""
        hot_at = self.floor_of(service)
        return fair_share(self.capacity_of(service), self.loads.active_users(), hot_at)

    def floor_of(self, service: str) -> float:
        """The least load that is hot on a service, in workers."""
        return self._rules.fast.floor(self._sources.capacity(service))
