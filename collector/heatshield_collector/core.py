"""What decides, composed once: for the collector around it, and for simulations of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from heatshield.clock import Clock
from heatshield.contract import PlatformMode
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.rules import RuleGroup, RuleRunner
from heatshield_collector.analysis import Analysis
from heatshield_collector.control import Breakers, ControlLoop, Outlets
from heatshield_collector.control.platform_mode import FIRST_MODE, Keeps
from heatshield_collector.detect import (
    Detection,
    Durations,
    HotRules,
    MakesDetectors,
    all_detectors,
)
from heatshield_collector.link import Linker
from heatshield_collector.link.reporting import Reporting
from heatshield_collector.link.shown_workers import ShownWorkers
from heatshield_collector.self_metrics import SelfMetrics
from heatshield_collector.settings import CollectorSettings

__all__ = ["ASSUMED_CAPACITY", "Core"]

ASSUMED_CAPACITY: Final = 1.0
"""Workers of a service none of whose instances has reported yet."""


class Core:
    """Linking, detection, rules and breakers, each handed what it needs.

    Nothing here opens a file or a connection, and no thread runs before ``control.start()``.

    Args:
        settings: thresholds, cold start and mode.
        rules: evaluated each round.
        epoch: higher than at any earlier start.
        outlets: told of what is done.
        clock: stamps what comes without a moment of its own.
        seed: of the hashes of detectors. The same seed and input give the same answers; in a
            collector senders must not know it.
        wake: called when a batch should be evaluated at once; by default it wakes the thread of
            ``control``.
        keep_mode: told of each mode that a person sets.
        detectors: makes the detectors.
        workers: of services, in place of what their instances say; for recordings.

    Attributes:
        metrics: what all of it counts.
        breakers: the breaker state.
        detection: loads and detectors.
        durations: of calls.
        control: the rounds of evaluation.
        analysis: takes in batches of spans.
    """

    def __init__(  # noqa: PLR0913 - it puts all together
        self,
        settings: CollectorSettings,
        rules: Iterable[RuleGroup],
        *,
        epoch: int,
        outlets: Outlets,
        clock: Clock,
        seed: int,
        wake: Callable[[], None] | None = None,
        keep_mode: Keeps | None = None,
        detectors: MakesDetectors = all_detectors,
        workers: Mapping[str, float] | None = None,
    ) -> None:
        self._workers = workers or {}
        self.metrics = SelfMetrics()
        shown, reporting = ShownWorkers(), Reporting()
        self.breakers = Breakers(
            BreakerControl(epoch, PlatformMode(settings.mode or FIRST_MODE)),
            outlets,
            self.metrics.rejected,
            clock,
            keep_mode,
            lambda service: self.detection.fair_share_of(service),  # noqa: PLW0108 - made later
            lambda key: self.detection.loads.cost_per_call_of(key, clock.monotonic()),
            shown.of,
        )
        self.detection = Detection(
            self._capacity,
            HotRules.tuned(
                share=settings.hot_share, ratio=settings.hot_ratio, least=settings.hot_floor
            ),
            detectors=detectors,
            seed=seed,
            limits=lambda: self.breakers.policy().limits,
        )
        self.durations = Durations()
        self.control = ControlLoop(
            self.detection,
            RuleRunner(rules),
            self.breakers,
            outlets,
            clock,
            settings.cold_start_s,
        )
        self.analysis = Analysis(
            Linker(reporting.reports),
            reporting,
            shown,
            self.detection,
            self.durations,
            self.breakers,
            self.metrics,
            may_be_hot=wake or self.control.wake,
        )

    def _capacity(self, service: str) -> float:
        workers = self._workers.get(service) or self.breakers.workers_of(service)
        return ASSUMED_CAPACITY if workers is None else workers
