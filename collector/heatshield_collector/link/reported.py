"""Charge reports to costs: what processes say that their users cost, as detection takes it in.

A row is a pair of a user and a call of one process, and stands for many requests. It names none of
them; the ids of the costliest are evidence. Time in a backend is the user's, and the backend's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from heatshield.call_key import DEFAULT_TENANT, LONGEST, SEPARATOR, CallKey
from heatshield.charge_report import ChargeReport, Pair
from heatshield.identity.wire_id import wire_id
from heatshield.json_columns import transposed

__all__ = ["Reported", "Rows", "plain"]

Integers = npt.NDArray[np.int64]

COST_MOST: Final = 2**48
"""Costs are clamped here, as sketches do it: sums of many rows must not wrap around."""

_TRACE_ID: Final = re.compile("[0-9a-f]{32}")


def plain(report: ChargeReport) -> ChargeReport:
    """The report with names as spans have them: none is long or unprintable, and each can be cut.

    Instances and backends are cut, as they are in charges of spans.
    """
    users, calls, *_ = transposed(report.pairs, len(Pair._fields))
    texts = {report.service, *calls, *filter(None, users)}
    cut_texts = {report.instance, *transposed(report.backend_us, 4)[1]}
    cut_texts.update(transposed(report.operations, 4)[1])
    cut_texts.update(transposed(report.backend_durations, 3)[0])
    longest = max(map(len, chain(texts, cut_texts)))
    if longest <= LONGEST and "".join(texts).isprintable():
        return report

    def cut(rows: Sequence[Any]) -> list[Any]:
        return [row._replace(backend=row.backend[:LONGEST]) for row in rows]

    return replace(
        report,
        service=wire_id(report.service),
        instance=report.instance[:LONGEST],
        pairs=[
            pair._replace(user=pair.user and wire_id(pair.user), call=wire_id(pair.call))
            for pair in report.pairs
        ],
        backend_us=cut(report.backend_us),
        backend_durations=cut(report.backend_durations),
        operations=cut(report.operations),
    )


class Reported:
    """Reports that came together, by pair and by call.

    Columns have one entry a pair, in the order of the reports.

    Args:
        reports: that have not come before, with plain names, and whether each is late: late ones
            count, but not towards a trip.

    Attributes:
        reports: as they were given.
        named: users as they were sent: ``None`` where none is known, empty for the rest.
        users: ``None`` where no user is known, and for the rest.
        services: the distinct ones, and ``service``, int64[n], the place of each pair's.
        keys: texts of :class:`~heatshield.call_key.CallKey`.
        heads: the distinct ones of them without a user, and ``head``, int64[n], the place of each.
        eligible: bool[n], whether it may count towards a trip.
        process: uint64[n], a number for the process.
        costs: int64[n] by name: ``cpu_us``, ``backend_us``, ``busy_us`` (both), ``wait_us``,
            ``elements``, ``calls``, ``errors``.
        ended: int64[n], calls that ended since the last report.
        open: int64[n], calls that run.
        traces: of each the ids of the costliest requests, as they were sent.
        spent, durations: rows of these tables.
        call_keys: texts of the keys of calls, and of backends as calls.
        call_costs: int64[m] by name: costs of each of these; a backend's are not its callers'.
    """

    def __init__(self, reports: Sequence[tuple[ChargeReport, bool]]) -> None:
        self.reports = reports
        counts = np.array([len(report.pairs) for report, _ in reports], dtype=np.int64)
        tables = [transposed(report.pairs, len(Pair._fields)) for report, _ in reports]
        by_name = {
            name: list(chain.from_iterable([table[at] for table in tables]))
            for at, name in enumerate(Pair._fields)
        }
        self.named: Sequence[str | None] = by_name["user"]
        self.users = [user or None for user in self.named]
        self.traces: Sequence[tuple[str, ...]] = by_name["traces"]
        self.services, numbers = _numbered([report.service for report, _ in reports])
        self.service = np.repeat(numbers, counts)
        heads = _heads(
            (report.service, table[1]) for (report, _), table in zip(reports, tables, strict=True)
        )
        self.heads, self.head = _numbered(heads)
        self.keys = [
            head if user is None else f"{head}{SEPARATOR}{user}"
            for head, user in zip(heads, self.users, strict=True)
        ]
        known = np.array([user is not None for user in self.users], dtype=bool)
        self.eligible = known & np.repeat(
            np.array([not late for _, late in reports], dtype=bool), counts
        )
        processes = np.array([_number(report) for report, _ in reports], dtype=np.uint64)
        self.process = np.repeat(processes, counts)
        self._firsts = [0, *np.cumsum(counts).tolist()]
        self.spent = self.rows("backend_us")
        spent_us = _costs(self.spent.column(2))
        own = ("cpu_us", "wait_us", "elements", "calls", "errors")
        self.costs = {name: _costs(by_name[name]) for name in own}
        self.costs["backend_us"] = _sums(self.spent.pair, spent_us, len(self.users))
        self.costs["busy_us"] = self.costs["cpu_us"] + self.costs["backend_us"]
        self.durations = self.rows("durations")
        of_call, calls = self.durations.pair, _costs(self.durations.column(2))
        is_open = np.array(self.durations.column(3), dtype=bool)
        self.ended = _sums(of_call[~is_open], calls[~is_open], len(self.users))
        self.open = _sums(of_call[is_open], calls[is_open], len(self.users))
        self.call_keys, self.call_costs = self._by_call(self.spent.column(1), spent_us)

    def rows(self, table: str) -> "Rows":
        """The rows of one table of all reports."""
        tables = (getattr(report, table) for report, _ in self.reports)
        return Rows(zip(self._firsts, tables, strict=False))

    def _by_call(
        self, backends: Sequence[str], spent_us: Integers
    ) -> tuple[list[str], dict[str, Integers]]:
        """Costs by call without what was in backends, and by backend."""
        names = self.heads
        costs = {
            name: _sums(self.head, self.costs[name], len(names))
            for name in ("cpu_us", "wait_us", "elements", "calls", "errors")
        }
        there, of_spent = _numbered(backends)
        in_backend = _sums(of_spent, spent_us, len(there))
        nothing = np.zeros(len(there), dtype=np.int64)
        found = {name: np.concatenate([column, nothing]) for name, column in costs.items()}
        found["backend_us"] = np.concatenate([np.zeros(len(names), dtype=np.int64), in_backend])
        found["busy_us"] = found["cpu_us"] + found["backend_us"]
        return [*names, *map(_backend_key, there)], found

    def trace_ids(self, pair: int) -> list[str]:
        """The ids of the costliest requests of a pair, hexadecimal; what is no id is left out."""
        return [one for one in self.traces[pair] if _TRACE_ID.fullmatch(one)]


class Rows:
    """Rows of one table of several reports, whose first column is the pair.

    Attributes:
        pair: int64[n], the place among the pairs of all reports.
    """

    def __init__(self, tables: Iterable[tuple[int, Sequence[Any]]]) -> None:
        columns = [(first, transposed(table, 4)) for first, table in tables if len(table)]
        places = [np.array(one[0], dtype=np.int64) + first for first, one in columns]
        self.pair = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
        self._columns = [one for _, one in columns]

    def column(self, at: int) -> Sequence[Any]:
        """A column as it was sent."""
        return list(chain.from_iterable([one[at] for one in self._columns]))


def _numbered(names: Sequence[str]) -> tuple[list[str], Integers]:
    """The distinct names, and the place of each among them."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return list(places), np.fromiter(map(places.__getitem__, names), np.int64, len(names))


def _heads(processes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Texts of the pairs' keys without a user; a process has few calls."""
    found: list[str] = []
    for service, calls in processes:
        texts = {call: CallKey(DEFAULT_TENANT, None, service, call).text for call in set(calls)}
        found += map(texts.__getitem__, calls)
    return found


@lru_cache(maxsize=1_024)
def _backend_key(backend: str) -> str:
    """The key that a backend has among calls: ``redis cart:6379`` is the system and its address."""
    system, _, address = backend.partition(" ")
    return CallKey(DEFAULT_TENANT, None, system, address or system).text


def _number(report: ChargeReport) -> int:
    """64 bits for a process."""
    return crc32(report.service.encode()) << 32 | crc32(report.instance.encode())


def _costs(column: Sequence[int]) -> Integers:
    return np.minimum(np.array(column, dtype=np.int64), COST_MOST)


def _sums(places: Integers, costs: Integers, count: int) -> Integers:
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, places, costs)
    return np.minimum(sums, COST_MOST)
