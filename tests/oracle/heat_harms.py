"""A detector for tests of what findings lead to: whoever is hot is taken to harm others, for good.

What makes a user harmful is judged in tests of the detector; here a burst of charges is enough.
"""

from collections.abc import Sequence
from dataclasses import replace

from heatshield_collector.detect import Detector, Finding, HotRules, Sources
from heatshield_collector.detect.harm.harmful_user import HARMFUL
from heatshield_collector.detect.heavy_user import HeavyUser
from heatshield_collector.detect.hot_user import HotUser

__all__ = ["heat_harms"]


class _HeatHarms(HotUser):
    def evaluate(self, instant: object) -> list[Finding]:
        return [replace(one, klass=HARMFUL, action="reject") for one in super().evaluate(instant)]


def heat_harms(sources: Sources, rules: HotRules) -> Sequence[Detector]:
    """In place of all detectors of the collector."""
    return [_HeatHarms(sources, rules), HeavyUser(sources)]
