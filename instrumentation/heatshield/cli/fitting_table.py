"""A table that drops whole columns where a terminal is narrow, and cuts nothing in those it keeps.

::

    120 columns:  user  service  call     load  share  usual           class  breaker
     80 columns:  user  service  call     load  share  class  breaker
     50 columns:  user  call     class    breaker           and what still does not fit is folded
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "FittingTable"]

GAP: Final = 2
"""Cells between two columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: its heading.
        drops: its turn when columns have to go, the lowest first; 0 for one that stays.
        justify: to which side its cells stand.
        beneath: where it is dropped, its cells follow beneath the table, each after the row's
            first cell.
    """

    name: str
    drops: int = 0
    justify: Literal["left", "right"] = "left"
    beneath: bool = False


@dataclass(frozen=True, slots=True)
class FittingTable:
    """Rows of text under columns; a rich renderable.

    Attributes:
        columns: in the order in which they stand.
        rows: each of as many cells as there are columns.
        title: above the table.
        caption: beneath it.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Text]]
    title: Text = field(default_factory=Text)
    caption: Text = field(default_factory=Text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the table out for the width of the console."""
        shown = self._fitting(options.max_width)
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
        for at in shown:
            column = self.columns[at]
            table.add_column(column.name, justify=column.justify, overflow="fold")
        for row in self.rows:
            table.add_row(*(_whole(row[at]) for at in shown))
        if self.title:
            yield Text(self.title.plain, "italic", overflow="fold")
        yield table
        for at, column in enumerate(self.columns):
            if column.beneath and at not in shown:
                yield from (
                    Text.assemble(_whole(row[0]), ": ", _whole(row[at]))
                    for row in self.rows
                    if row[at]
                )
        if self.caption:
            yield Text(self.caption.plain, "dim italic", overflow="fold")

    def _fitting(self, width: int) -> list[int]:
        """The columns that are shown: as many as fit, and all that stay."""
        shown = [at for at in range(len(self.columns)) if self._says_something(at)]
        leaving = sorted(
            (at for at in shown if self.columns[at].drops), key=lambda at: self.columns[at].drops
        )
        for at in leaving:
            if sum(self._width(one) + GAP for one in shown) - GAP <= width:
                break
            shown.remove(at)
        return shown

    def _says_something(self, at: int) -> bool:
        """A column without a name, or that may stand beneath, is left out where it is empty."""
        column = self.columns[at]
        return bool(column.name and not column.beneath) or any(row[at] for row in self.rows)

    def _width(self, at: int) -> int:
        cells = (row[at].cell_len for row in self.rows)
        return max(len(self.columns[at].name), *cells, 0)


def _whole(cell: Text) -> Text:
    """The cell, to be folded and never cut."""
    copy = cell.copy()
    copy.overflow = "fold"
    return copy
