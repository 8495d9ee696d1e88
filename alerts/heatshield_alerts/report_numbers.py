"""Which reports of rejections were counted already: a client sends one again if no answer came."""

from heatshield.contract import Report
from heatshield_alerts.instances import MAX_INSTANCES

__all__ = ["ReportNumbers"]


class ReportNumbers:
    """The highest number counted of each instance; of those that reported last."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str], int] = {}

    def is_new(self, report: Report) -> bool:
        """Whether the rejections of a report are to be counted; they are not another time.

        A late first copy of what was sent again meanwhile has the same number, or a lower one. A
        report without rejections repeats the number of the last that had some.
        """
        if not report.rejected or report.number <= 0:
            return True
        key = (report.service, report.instance)
        counted = self._counted.pop(key, 0)  # and in again at the end: the dict is by age
        self._counted[key] = max(counted, report.number)
        if len(self._counted) > MAX_INSTANCES:
            del self._counted[next(iter(self._counted))]
        return report.number > counted
