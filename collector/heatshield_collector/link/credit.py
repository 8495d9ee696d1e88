"""A charge report without what was charged from spans already: where reports have just begun."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Final

import pyarrow as pa

from heatshield.charge_report import ChargeReport, Pair

__all__ = ["credited"]

_COSTS: Final = ("elements", "rows", "bytes", "calls", "errors")
_Pair = tuple[str | None, str]


def credited(report: ChargeReport, charged: pa.Table) -> ChargeReport:
    """The report with the costs that it has beyond these charges, by user and call.

    Args:
        report: as it came.
        charged: ``link.CHARGES`` of the same work, from spans. Their time has waiting in it where
            the report's has not, so the larger of the two is what is charged in the end.
    """
    costs: defaultdict[_Pair, Counter[str]] = defaultdict(Counter)
    for row in charged.to_pylist():
        of = costs[row["user"], row["call"]]
        of[f"in {row['backend']}" if row["backend"] else "cpu_us"] += row["busy_us"]
        for name in _COSTS:
            of[name] += row[name] or 0
    pairs = [_credited_pair(pair, costs) for pair in report.pairs]
    spent = []
    for row in report.backend_us:
        pair = report.pairs[row.pair]
        of = costs[pair.user or None, pair.call]
        spent.append(row._replace(us=_less(of, f"in {row.backend.partition(' ')[0]}", row.us)))
    return replace(report, pairs=pairs, backend_us=spent)


def _credited_pair(pair: Pair, costs: defaultdict[_Pair, Counter[str]]) -> Pair:
    of = costs[pair.user or None, pair.call]
    return pair._replace(
        cpu_us=_less(of, "cpu_us", pair.cpu_us),
        elements=_less(of, "elements", pair.elements),
        rows=_less(of, "rows", pair.rows),
        bytes=_less(of, "bytes", pair.bytes),
        calls=_less(of, "calls", pair.calls),
        errors=_less(of, "errors", pair.errors),
    )


def _less(of: Counter[str], name: str, cost: int) -> int:
    """What is left of a cost; what is taken from the one pair is not taken from the next."""
    taken = min(of[name], cost)
    of[name] -= taken
    return cost - taken
