"""Which charge reports came before: a sender sends one again when no answer came.

Of each instance the highest number is kept, and which of the last :data:`HORIZON` came. So order
does not matter, and the memory is flat.
"""

from dataclasses import dataclass, field
from typing import Final

from heatshield.charge_report import ChargeReport

__all__ = ["HORIZON", "INSTANCES_MOST", "ReportNumbers"]

HORIZON: Final = 1_024
"""Numbers behind the highest that are told apart: more than three minutes of five reports a second.
What is older is not counted, for it may have been."""

INSTANCES_MOST: Final = 20_000
"""Instances remembered, some 10 MiB; the one that was silent longest goes first."""

_ALL: Final = (1 << HORIZON) - 1


@dataclass(slots=True)
class _Came:
    """The highest number of an instance; bit ``b`` of ``which`` says that ``highest - b`` came."""

    highest: int
    which: int = 1


@dataclass(slots=True)
class ReportNumbers:
    """The numbers of charge reports that were counted. Not thread-safe.

    Attributes:
        duplicates: reports that came again.
        forgotten: reports that came too late to tell whether they had come before.
    """

    duplicates: int = 0
    forgotten: int = 0
    _instances: dict[tuple[str, str], _Came] = field(default_factory=dict)

    def is_new(self, report: ChargeReport) -> bool:
        """Whether a report is to be counted; it is not another time."""
        key = (report.service, report.instance)
        known = self._instances.pop(key, None)  # and in again: the dict is by silence
        if known is None:
            self._instances[key] = _Came(report.number)
            if len(self._instances) > INSTANCES_MOST:
                del self._instances[next(iter(self._instances))]
            return True
        self._instances[key] = known
        ahead = report.number - known.highest
        if ahead > 0:
            moved = known.which << ahead if ahead < HORIZON else 0
            known.highest, known.which = report.number, moved & _ALL | 1
            return True
        if -ahead >= HORIZON:
            self.forgotten += 1
            return False
        bit = 1 << -ahead
        if known.which & bit:
            self.duplicates += 1
            return False
        known.which |= bit
        return True
