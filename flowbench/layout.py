"""How a table of results fits a terminal: which columns stay, which fold into the first, how figures line up.

Nothing is lost silently: what is the same for all runs moves into the heading, what tells runs apart (recipe, seed,
device) folds below the model's name, and what is left out for want of width is named below the table.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

GAP = 2
"""Blanks between two columns."""

FOLDED_WIDTH = 18
"""What is folded into the first column is wrapped at this width, or the column's own if that is more."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``rank`` 0 always stays; else the highest leaves first. ``folds``: it tells runs apart, and so leaves into the first
    column's cells. ``styles``: rich styles of the cells, where there are any.
    """

    header: str
    cells: tuple[str, ...]
    rank: int = 0
    folds: bool = False
    right: bool = True
    styles: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Terminal cells it takes."""
        return max(cell_len(line) for text in (self.header, *self.cells) for line in text.split("\n"))

    @property
    def name(self) -> str:
        """Its header in one line."""
        return self.header.replace("\n", " ")


@dataclass(frozen=True)
class Figure:
    """A number to print: ``value ± error``, with ``decimals`` or, where None, as many as the errors deserve."""

    value: float | None
    error: float | None
    decimals: int | None = None


def without_common(columns: Sequence[Column], runs: int) -> tuple[list[Column], str]:
    """The columns without those that would only say the same of all ``runs``, and these in words."""
    common = [column for column in columns if column.folds and len(set(column.cells[:runs])) == 1]
    words = ", ".join(f"{column.name} {column.cells[0]}" for column in common)
    return [column for column in columns if column not in common], words


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit ``width`` terminal cells, and the names of those left out."""
    kept, folded, left_out = list(columns), list[Column](), list[str]()
    while _total(kept) > width:
        leaving = max(kept, key=lambda column: column.rank)
        if leaving.rank == 0:
            break
        kept.remove(leaving)
        if leaving.folds:
            folded.append(leaving)
            kept[0] = _with_folded(columns[0], [column for column in columns if column in folded])
        else:
            left_out.append(leaving.name)
    return kept, left_out


def rich_table(columns: Sequence[Column], sections: Mapping[int, str]) -> Table:
    """The columns as rich has them; ``sections`` gives titles of those that begin at a row, perhaps empty ones."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP // 2), collapse_padding=False)
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(Text(column.header), justify=justify, no_wrap=column.right, overflow="fold", vertical="top")
    for index in range(len(columns[0].cells)):
        if index in sections:
            table.add_row()
            if sections[index]:
                table.add_row(Text(sections[index], style="italic"))
        styles = (column.styles[index] if index < len(column.styles) else "" for column in columns)
        table.add_row(*(Text(column.cells[index], style=style) for column, style in zip(columns, styles, strict=True)))
    return table


def aligned(figures: Sequence[Figure]) -> tuple[str, ...]:
    """The figures as cells of one width, their decimal points below each other; blank where there is no value."""
    errors = [figure.error for figure in figures if figure.error and figure.decimals is None]
    common = max((_decimals(error) for error in errors), default=2)
    decimals = [common if figure.decimals is None else figure.decimals for figure in figures]
    most = max(decimals, default=0)
    pairs = zip(figures, decimals, strict=True)
    halves = [(_fixed(figure.value, places, most), _fixed(figure.error, places, most)) for figure, places in pairs]
    left, right = (max((len(half[side]) for half in halves), default=0) for side in (0, 1))
    if right == 0:
        return tuple(value.rjust(left) if value.strip() else "" for value, _ in halves)
    return tuple(
        f"{value.rjust(left)} {'±' if error.strip() else ' '} {error.rjust(right)}" if value.strip() else ""
        for value, error in halves
    )


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours, as a reader would say it."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def significant(value: float | None) -> str:
    """Three significant digits without an exponent: 0.0123, 1.23, 1,234."""
    if value is None:
        return ""
    places = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(places, 0), 6)}f}"


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + (GAP + 1) * (len(columns) - 1)


def _with_folded(first: Column, folded: Sequence[Column]) -> Column:
    width = max(FOLDED_WIDTH, first.width)

    def cell(index: int) -> str:
        words = ", ".join(f"{column.name} {column.cells[index]}" for column in folded if column.cells[index])
        return "\n".join(
            [first.cells[index], *textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ")]
        )

    return replace(first, cells=tuple(cell(index) for index in range(len(first.cells))))


def _decimals(error: float) -> int:
    """As many as show two digits of the error."""
    return min(max(1 - math.floor(math.log10(error)), 0), 4)


def _fixed(value: float | None, places: int, most: int) -> str:
    """With blanks where others have further decimals."""
    if value is None:
        return ""
    return f"{value:.{places}f}" + " " * (most - places + (places == 0 < most))
