"""Heavy users: decides whether a user has a large share of all busy time. Reported, never cut."""

from typing import Final

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_collector.detect.findings import Finding
from heatshield_collector.detect.protocol import Sources
from heatshield_collector.detect.windows import WINDOWS_S, WindowName
from heatshield_collector.link import Linked

__all__ = ["HEAVY", "HeavyUser"]

HEAVY: Final = "heavy"

SHARE: Final = 0.05
"""Part of all busy load at which a user is heavy."""

LEAST: Final = 0.1
"""Load in workers below which a user is not heavy, however quiet all others are."""

WINDOW: Final[WindowName] = "10s"


class HeavyUser:
    """Names each user on a call with at least 5 % of all busy load over ten seconds.

    Args:
        sources: loads and evidence; this detector keeps nothing itself.
    """

    def __init__(self, sources: Sources) -> None:
        self._loads = sources.loads
        self._evidence = sources.evidence

    def observe(self, linked: Linked, instant: Instant) -> bool:  # noqa: ARG002 - of the protocol
        """Nothing to do: the shared loads have it. Never urgent."""
        return False

    def evaluate(self, instant: Instant) -> list[Finding]:
        """The heavy users of this moment, the heaviest first."""
        now_s = instant.monotonic_s
        floor_us = LEAST * WINDOWS_S[WINDOW] * 1e6
        if self._loads.busy_most(WINDOW, now_s) < floor_us:
            return []
        busy = self._loads.busy(WINDOW, now_s)
        least_us = max(SHARE * busy.total, floor_us)
        found = []
        for hitter in busy.surely_over(round(least_us) - 1):
            key = CallKey.parse(hitter.key)
            if key.user is None:
                continue
            share = hitter.lower / busy.total
            found.append(
                Finding(
                    klass=HEAVY,
                    key=key,
                    cost="busy",
                    window=WINDOW,
                    load=hitter.lower / 1e6 / WINDOWS_S[WINDOW],
                    baseline=self._loads.baseline_of(key, now_s),
                    reason=f"{share:.0%} of all busy time over {WINDOW} belongs to this user",
                    trace_ids=self._evidence.of(hitter.key),
                )
            )
        return found
