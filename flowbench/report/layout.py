"""How a table of results fits a terminal: which columns stay, which fold into the first, how figures line up.

Nothing is lost silently: what is the same for all runs moves into the heading, what tells runs apart (recipe, seed,
device) folds below the model's name, and what is left out for want of width is named below the table.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from flowbench.console import plural, printable

GAP = 2
"""Blanks between two columns."""

FOLDED_WIDTH = 18
"""What is folded into the first column is wrapped at this width, or the column's own if that is more."""

NARROWEST = 10
"""Terminal cells down to which the first column is wrapped: the longest word of a published model's name."""

LAST = 1
"""The rank of what leaves only where all else has left and the first column is as narrow as it may be."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``rank`` 0 always stays; else the highest leaves first, all of a rank together. ``folds``: it tells runs apart, and
    so leaves into the first column's cells. ``styles``: rich styles of the cells, where there are any. ``most``: the
    terminal cells at which its lines are wrapped.
    """

    header: str
    cells: tuple[str, ...]
    rank: int = 0
    folds: bool = False
    right: bool = True
    styles: tuple[str, ...] = ()
    most: int | None = None

    @property
    def width(self) -> int:
        """Terminal cells it takes."""
        natural = max(cell_len(line) for text in (self.header, *self.cells) for line in text.split("\n"))
        return natural if self.most is None else min(natural, self.most)

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
    while (rank := max(column.rank for column in kept)) > 0:
        others = _total(kept) - kept[0].width
        if others + (NARROWEST if rank == LAST else kept[0].width) <= width:
            break
        leaving = [column for column in kept if column.rank == rank]
        kept = [column for column in kept if column.rank != rank]
        folded += [column for column in leaving if column.folds]
        left_out += [column.name for column in leaving if not column.folds]
        kept[0] = _with_folded(columns[0], [column for column in columns if column in folded])
    kept[0] = replace(kept[0], most=max(NARROWEST, width - _total(kept) + kept[0].width))
    return kept, left_out


def rich_table(columns: Sequence[Column], sections: Mapping[int, str]) -> Table:
    """The columns as rich has them; ``sections`` gives titles of those that begin at a row, perhaps empty ones."""
    # between columns: the padding, and one blank of the box
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for column in columns:
        # a number is never wrapped, and where even the last columns do not fit, not cut without a sign of it
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if column.right else "fold"
        own = None if column.most is None else column.width
        table.add_column(Text(_filled(column, column.header)), no_wrap=column.right, overflow=overflow, width=own)
    for index in range(len(columns[0].cells)):
        if index in sections:
            table.add_row()
            if sections[index]:
                table.add_row(plain(sections[index], "italic"))
        styles = (column.styles[index] if index < len(column.styles) else "" for column in columns)
        texts = (_filled(column, column.cells[index]) for column in columns)
        table.add_row(*(plain(text, style) for text, style in zip(texts, styles, strict=True)))
    return table


def plain(text: str, style: str = "") -> Text:
    """A text as it is: markup in it is shown, and what would steer a terminal is not sent to it."""
    return Text(printable(text), style)


def given_groups(groups: int) -> str:
    """What a standard error over rows says where they are windows of a few photographs."""
    return f"± 2 s.e. is an error given the {plural(groups, 'photograph')}, or strips, that the rows are windows of"


def aligned(figures: Sequence[Figure], sign: str = "") -> tuple[str, ...]:
    """The figures as cells of one width, their decimal points below each other; blank where there is no value.

    ``sign`` is "+" where positive values are to have one.
    """
    deserved = [decimals(figure.error) for figure in figures if figure.error and figure.decimals is None]
    common = max(deserved, default=2)
    places = [common if figure.decimals is None else figure.decimals for figure in figures]
    most = max(places, default=0)
    values = [_fixed(figure.value, own, most, sign) for figure, own in zip(figures, places, strict=True)]
    errors = [_fixed(figure.error, own, most) for figure, own in zip(figures, places, strict=True)]
    left, right = max(map(len, values), default=0), max(map(len, errors), default=0)
    signed = [f" ± {error.rjust(right)}" if error else " " * (right + 3) if right else "" for error in errors]
    return tuple(value.rjust(left) + error if value else "" for value, error in zip(values, signed, strict=True))


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
    return sum(column.width for column in columns) + GAP * (len(columns) - 1)


def _filled(column: Column, text: str) -> str:
    """Blanks on the left where it stands right: rich would strip those on the right, which align decimal points."""
    if not column.right:
        return text
    return "\n".join(" " * (column.width - cell_len(line)) + line for line in text.split("\n"))


def _with_folded(first: Column, folded: Sequence[Column]) -> Column:
    width = max(FOLDED_WIDTH, first.width)

    def cell(index: int) -> str:
        # a hard blank, so that a name is not parted from what it names
        words = ", ".join(f"{column.name}\xa0{column.cells[index]}" for column in folded if column.cells[index])
        lines = textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ")
        return "\n".join([first.cells[index], *lines]).replace("\xa0", " ")

    return replace(first, cells=tuple(cell(index) for index in range(len(first.cells))))


def decimals(error: float) -> int:
    """As many as show two digits of the error."""
    return min(max(1 - math.floor(math.log10(error)), 0), 4)


def _fixed(value: float | None, places: int, most: int, sign: str = "") -> str:
    """With blanks where others have further decimals."""
    if value is None:
        return ""
    return f"{value:{sign}.{places}f}" + " " * (most - places + (places == 0 < most))
