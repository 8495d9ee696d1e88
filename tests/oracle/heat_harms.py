"""A detector for tests of what findings lead to: whoever is hot is taken to harm others, for good.

What makes a user harmful is judged in tests of the detector; here a burst of charges is enough.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import Detector, Finding, HotRules, Sources, Victims
from heatshield_collector.detect.harm.harmful_user import HARMFUL
from heatshield_collector.detect.heavy_user import HeavyUser
from heatshield_collector.detect.hot_user import HotUser

__all__ = ["VICTIMS", "heat_harms", "sentence"]

LASTING: Final = 7
"""Evaluations in a row, of which eight are two seconds, after which harm lasts."""

VICTIMS: Final = Victims(
    requests=312, harmed=128, users=41, worst_users=("v-1", "v-2"), calls=("shop GET /p",),
    usual_p95_ms=12.0, p95_ms=410.0, errors=0.03,
)  # fmt: skip


class _HeatHarms(HotUser):
    def __init__(self, sources: Sources, rules: HotRules) -> None:
        super().__init__(sources, rules)
        self._seen: Counter[CallKey] = Counter()
        self._asked: Instant | None = None

    def evaluate(self, instant: Instant) -> list[Finding]:
        found = super().evaluate(instant)
        if instant != self._asked:
            self._seen = Counter({one.key: self._seen[one.key] + 1 for one in found})
            self._asked = instant
        return [
            replace(
                one,
                klass=HARMFUL,
                action="reject" if self._seen[one.key] >= LASTING else "pace",
                resource="Redis cart",
                reason=sentence(one.key),
                figures={"busy_low": 0.83, "busy_high": 0.91},
                thresholds={"share": 0.3},
                victims=VICTIMS,
            )
            for one in found
        ]


def sentence(key: CallKey) -> str:
    """Why, as the detector says it."""
    return f"{key.user} keeps Redis `cart` 83-91 % busy with `{key.service} {key.call}`"


def heat_harms(sources: Sources, rules: HotRules) -> Sequence[Detector]:
    """In place of all detectors of the collector."""
    return [_HeatHarms(sources, rules), HeavyUser(sources)]
