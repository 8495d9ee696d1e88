"""A charge report without what was charged from spans already: where reports have just begun.

A span tells what a call cost from its begin to its end; reports tell it piece by piece. So a report
is credited with what is left of each span that its stretch of time overlaps, of short spans before
long ones: with reports in order that is the earliest deadline first, which leaves nothing over that
could be credited (Jackson, 1955).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

import pyarrow as pa

from heatshield.charge_report import ChargeReport, Pair

__all__ = ["Credit", "credited"]

_COSTS: Final = ("elements", "rows", "bytes", "calls", "errors")


@dataclass(slots=True)
class Credit:
    """What was charged from one span, and no report has been credited with.

    Attributes:
        at_s: when it was charged, monotonic seconds.
        user, call: whom, and on what.
        start_ns, end_ns: of the span.
        left: by cost; time in a backend by :func:`_time_in`.
    """

    at_s: float
    user: str | None
    call: str
    start_ns: int
    end_ns: int
    left: dict[str, int]

    @classmethod
    def of(cls, charges: pa.Table, at_s: float) -> list[Self]:
        """The credits of rows of ``link.CHARGES``."""
        found = []
        for row in charges.to_pylist():
            left = {name: row[name] or 0 for name in _COSTS}
            left[_time_in(row["backend"]) if row["backend"] else "cpu_us"] = row["busy_us"]
            end_ns = row["start_ns"] + row["duration_ns"]
            found.append(cls(at_s, row["user"], row["call"], row["start_ns"], end_ns, left))
        return found

    def take(self, name: str, most: int) -> int:
        """Use up to so much of a cost; how much there was."""
        taken = min(self.left.get(name, 0), most)
        if taken:
            self.left[name] -= taken
        return taken


def credited(report: ChargeReport, credits_: Iterable[Credit]) -> ChargeReport:
    """The report with the costs that it has beyond these credits, which are used up.

    Their time has waiting in it where the report's has not, so what is charged in the end is the
    larger of the two.
    """
    begin_ns = report.at_ns - round(report.seconds * 1e9)
    by_pair: defaultdict[tuple[str | None, str], list[Credit]] = defaultdict(list)
    for one in sorted(credits_, key=lambda one: (one.end_ns - one.start_ns, one.start_ns)):
        if one.start_ns < report.at_ns and one.end_ns > begin_ns:
            by_pair[one.user, one.call].append(one)
    if not by_pair:
        return report

    def less(pair: Pair, name: str, cost: int) -> int:
        for one in by_pair.get((pair.user or None, pair.call), ()):
            cost -= one.take(name, cost)
        return cost

    pairs = [
        pair._replace(
            cpu_us=less(pair, "cpu_us", pair.cpu_us),
            elements=less(pair, "elements", pair.elements),
            rows=less(pair, "rows", pair.rows),
            bytes=less(pair, "bytes", pair.bytes),
            calls=less(pair, "calls", pair.calls),
            errors=less(pair, "errors", pair.errors),
        )
        for pair in report.pairs
    ]
    spent = [
        row._replace(
            us=less(report.pairs[row.pair], _time_in(row.backend.partition(" ")[0]), row.us)
        )
        for row in report.backend_us
    ]
    return replace(report, pairs=pairs, backend_us=spent)


def _time_in(system: str) -> str:
    return f"in {system}"
