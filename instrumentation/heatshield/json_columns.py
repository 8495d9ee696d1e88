"""Tables in the contract's JSON: columns of one length, of whole numbers, and places in lists of
names. They are read strictly: what is not as it should be raises.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from heatshield.json_fields import ContractError, object_of

__all__ = ["MAX_ROWS", "MOST", "Places", "place_in", "rows_of"]

MAX_ROWS: Final = 2_048
"""Rows of a table that are read at most."""

MOST: Final = 1 << 50
"""The largest number of a table: of microseconds, thirty-five years."""


class Places:
    """Names in the order in which they are first met, and the place of each."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The place of a name; a new one gets the next."""
        return self._places.setdefault(name, len(self._places))

    @property
    def names(self) -> list[str]:
        """The names by their places."""
        return list(self._places)


def rows_of(
    fields: Mapping[str, Any],
    table: str,
    names: Sequence[str],
    *,
    least: int = 0,
    may_be_null: Sequence[str] = (),
) -> list[tuple[Any, ...]]:
    """The rows of a table; a column that is left out is all zeros.

    Args:
        fields: the object that has the table.
        table: its name.
        names: of the columns, in the order of the rows' values.
        least: smaller numbers become this one.
        may_be_null: columns in which a value may be lacking.

    Raises:
        ContractError: if it is no table of whole numbers, or has too many rows.
    """
    columns = object_of(fields.get(table, {}), table)
    given = [columns[name] for name in names if name in columns]
    if not all(isinstance(column, list) for column in given):
        raise ContractError(f"{table} has a column that is no list")
    length = len(given[0]) if given else 0
    if any(len(column) != length for column in given):
        raise ContractError(f"{table} has columns of different lengths")
    if length > MAX_ROWS:
        raise ContractError(f"{table} has {length} rows, more than {MAX_ROWS}")
    read = []
    for name in names:
        column = columns.get(name) or [0] * length
        may_lack = name in may_be_null
        if not all(isinstance(one, int) or (may_lack and one is None) for one in column):
            raise ContractError(f"{table}.{name} has a value that is no integer")
        read.append([one if one is None else min(max(least, one), MOST) for one in column])
    return list(zip(*read, strict=True))


def place_in(place: int, count: int) -> int:
    """The place of a name in a list of ``count``.

    Raises:
        ContractError: if the list has no such place.
    """
    if not 0 <= place < count:
        raise ContractError(f"a table names place {place} of {count}")
    return place
