"""Tables in the contract's JSON: columns of one length, of whole numbers, and places in lists of
names. They are read strictly: what is not as it should be raises.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from heatshield.json_fields import ContractError, object_of

__all__ = [
    "MAX_ROWS",
    "MOST",
    "Places",
    "Table",
    "check_places",
    "columns_of",
    "in_places",
    "transposed",
]

T = TypeVar("T")
Row = TypeVar("Row")

MAX_ROWS: Final = 2_048
"""Rows of a table that are read at most."""

MOST: Final = 1 << 50
"""The largest number of a table: of microseconds, thirty-five years."""

_WHOLE: Final = frozenset({int, bool})
_WHOLE_OR_NULL: Final = _WHOLE | {type(None)}


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


class Table(Sequence[Row]):
    """Rows that are kept as columns, as they travel: each is made when it is asked for.

    Args:
        kind: makes a row of its values.
        columns: of one length.
    """

    __slots__ = ("_kind", "columns")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: Callable[..., Row], columns: Sequence[Sequence[Any]]) -> None:
        self._kind = kind
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return list(self)[at]
        return self._kind(*(column[at] for column in self.columns))

    def __iter__(self) -> Iterator[Row]:
        return map(self._kind, *self.columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


def transposed(rows: Sequence[Any], width: int) -> Sequence[Sequence[Any]]:
    """The columns of rows, ``width`` of them also where there is no row."""
    if isinstance(rows, Table):
        return rows.columns
    return list(zip(*rows, strict=True)) or [()] * width


def columns_of(
    fields: Mapping[str, Any],
    table: str,
    names: Sequence[str],
    *,
    least: int = 0,
    may_be_null: Sequence[str] = (),
) -> list[list[Any]]:
    """The columns of a table, of one length; one that is left out is all zeros.

    Each is looked at as a whole, as a collector reads thousands of rows a second.

    Args:
        fields: the object that has the table.
        table: its name.
        names: of the columns, in the order of the answer.
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
        kinds = set(map(type, column))
        if not kinds <= (_WHOLE_OR_NULL if name in may_be_null else _WHOLE):
            raise ContractError(f"{table}.{name} has a value that is no integer")
        numbers = [one for one in column if one is not None] if type(None) in kinds else column
        if numbers and not (least <= min(numbers) and max(numbers) <= MOST):
            column = [one if one is None else min(max(least, one), MOST) for one in column]
        read.append(column)
    return read


def in_places(places: Sequence[int], values: Sequence[T]) -> list[T]:
    """The value at each place.

    Raises:
        ContractError: if one is no place of ``values``.
    """
    check_places(places, len(values))
    return [values[place] for place in places]


def check_places(places: Sequence[int], count: int) -> None:
    """Check places in a list of ``count``.

    Raises:
        ContractError: if the list has not all of them.
    """
    if places and not (min(places) >= 0 and max(places) < count):
        wrong = next(place for place in places if not 0 <= place < count)
        raise ContractError(f"a table names place {wrong} of {count}")
