"""Whose spans are in traces whose spans name different users: whom their own service has named.

That is the user that a span names, or the nearest above it in its process that names one. The span
above may come with another batch: mostly with a later one, as it ends last. A charge waits for it
for a moment, and spans that have named somebody are remembered for those below that come late.
What finds nobody is charged to the trace's user and is not eligible for a trip. Memory is bounded.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heatshield_collector.link.charges import Booleans, Integers, LinkedColumns
from heatshield_collector.link.identity import GENERATION_MOST, GENERATION_NS
from heatshield_collector.link.pending import PATIENCE_NS, Charge, Settled
from heatshield_collector.link.tree import enclosing

__all__ = ["WAITING_MOST", "TornTraces"]

WAITING_MOST: Final = 20_000
"""Charges that wait for a span above them."""

_NOT_OF_CHARGE: Final = ("user", "eligible", "transferred")

Keys = npt.NDArray[np.uint64]


class _Waiting(NamedTuple):
    """A charge, since when it waits, and whom it goes to if nobody turns up."""

    since_ns: int
    charge: Charge
    otherwise: str | None


class TornTraces:
    """Finds the users of spans in such traces, over several batches."""

    def __init__(self) -> None:
        self._young: dict[int, str] = {}
        self._old: dict[int, str] = {}
        self._born_ns = 0
        self._waiting: OrderedDict[int, list[_Waiting]] = OrderedDict()  # by the span above
        self._count = 0
        self._settled: list[Settled] = []

    def users(
        self, columns: dict[str, pa.Array], batch: LinkedColumns, rows: Integers, now_ns: int
    ) -> tuple[pa.DictionaryArray, Keys]:
        """Whom the own services of spans have named.

        Args:
            columns: of the batch's spans.
            batch: what linking has added to them.
            rows: the spans asked for, n.
            now_ns: when the batch was received; monotonic.

        Returns:
            string[n], null where nobody is known, and uint64[n]: the key of the span above that
            may say it when it comes, 0 where no such span will come.
        """
        self._rotate(now_ns)
        services = pc.dictionary_encode(columns["service"], null_encoding="encode")
        service = services.indices.to_numpy()
        above = enclosing(batch.parents, _valid(columns["user"]))[rows]
        is_own = (above >= 0) & (service[rows] == service[above])
        users = columns["user"].take(pa.array(above, mask=~is_own))
        missing = np.zeros(len(rows), dtype=np.uint64)
        nameless = np.flatnonzero(~is_own)
        if len(nameless):
            top = enclosing(batch.parents, batch.parents < 0)[rows[nameless]]
            is_own = (top >= 0) & (service[rows[nameless]] == service[top])
            missing[nameless] = np.where(is_own, batch.above[top], 0)
            found = [self._young.get(key) or self._old.get(key) for key in missing.tolist()]
            users = pc.coalesce(users, pa.array(found, pa.string()))
            missing[_valid(users)] = 0
        self._learn(batch.keys[rows].tolist(), users.to_pylist())
        return pc.dictionary_encode(users), missing

    def hold(self, charges: pa.Table, above: Keys, now_ns: int) -> None:
        """Have charges wait for the spans above them.

        Args:
            charges: ``link.CHARGES``, as they are charged if nobody turns up.
            above: the key of the span that each waits for.
            now_ns: when they were received; monotonic.
        """
        rows: Iterable[dict[str, Any]] = charges.drop_columns(list(_NOT_OF_CHARGE)).to_pylist()
        users = charges.column("user").to_pylist()
        for key, row, user in zip(above.tolist(), rows, users, strict=True):
            self._waiting.setdefault(key, []).append(_Waiting(now_ns, Charge.of_row(row), user))
            self._count += 1
        while self._count > WAITING_MOST:
            self._give_up(next(iter(self._waiting)))

    def settled(self, now_ns: int) -> list[Settled]:
        """Take out the charges whose users are known now, and those that have waited too long."""
        while self._waiting:
            key, held = next(iter(self._waiting.items()))
            if held[0].since_ns > now_ns - PATIENCE_NS:
                break
            self._give_up(key)
        settled, self._settled = self._settled, []
        return settled

    def _learn(self, keys: Iterable[int], users: Iterable[str | None]) -> None:
        named = {key: user for key, user in zip(keys, users, strict=True) if user is not None}
        self._young.update(named)
        for key in named.keys() & self._waiting.keys():
            self._settled += [Settled(one.charge, named[key], True) for one in self._take(key)]

    def _give_up(self, key: int) -> None:
        self._settled += [Settled(one.charge, one.otherwise, False) for one in self._take(key)]

    def _take(self, key: int) -> list[_Waiting]:
        held = self._waiting.pop(key)
        self._count -= len(held)
        return held

    def _rotate(self, now_ns: int) -> None:
        if now_ns - self._born_ns >= GENERATION_NS or len(self._young) >= GENERATION_MOST:
            self._old, self._young, self._born_ns = self._young, {}, now_ns


def _valid(values: pa.Array) -> Booleans:
    return np.asarray(values.is_valid())
