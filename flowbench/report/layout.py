"""How a table of results fits a terminal: which columns stay, which fold into the first, how figures line up.

Nothing is lost silently: what is the same for all runs moves into the heading, what tells runs apart (recipe, seed,
device) folds below the model's name, and what is left out for want of width is named below the table.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from flowbench.console import plural, printable

GAP = 2
"""Blanks between two columns."""

FOLDED_WIDTH = 18
"""What is folded into the first column is wrapped at this width, or the column's own if that is more."""

NARROWEST = 10
"""Terminal cells down to which the first column is wrapped: the longest word of a published model's name."""

LAST = 5
"""The ranks up to this one leave only where all else has left and the first column is as narrow as it may be."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``rank`` 0 always stays; else the highest leaves first, all of a rank together. ``folds``: it tells runs apart, and
    so leaves into the first column's cells, with its name unless it is not ``named``: then its cells say what they are.
    ``styles``: rich styles of the cells, where there are any. ``most``: the terminal cells at which its lines are
    wrapped. ``values``: of cells that are figures the figures, to be sorted by, the ``high`` ones first.
    """

    header: str
    cells: tuple[str, ...]
    rank: int = 0
    folds: bool = False
    named: bool = True
    right: bool = True
    styles: tuple[str, ...] = ()
    most: int | None = None
    values: tuple[float | None, ...] = ()
    high: bool = False

    @cached_property
    def width(self) -> int:
        """Terminal cells it takes."""
        natural = max(map(_width, "\n".join((self.header, *self.cells)).split("\n")))
        return natural if self.most is None else min(natural, self.most)

    @property
    def name(self) -> str:
        """Its header in one line."""
        return self.header.replace("\n", " ")

    def said(self, index: int) -> str:
        """A cell where it stands alone."""
        return f"{self.name} {self.cells[index]}" if self.named else self.cells[index]


@dataclass(frozen=True)
class Figure:
    """A number to print: ``value ± error``, with ``decimals`` or, where None, as many as the errors deserve."""

    value: float | None
    error: float | None
    decimals: int | None = None


def without_common(columns: Sequence[Column], runs: int) -> tuple[list[Column], str]:
    """The columns without those that would only say the same of all ``runs``, and these in words."""
    common = [column for column in columns if column.folds and len(set(column.cells[:runs])) == 1]
    words = ", ".join(column.said(0) for column in common if column.cells[0])
    return [column for column in columns if column not in common], words


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit ``width`` terminal cells, and the names of those left out."""
    kept, folded, left_out = list(columns), list[Column](), list[str]()
    wrapped = max(FOLDED_WIDTH, columns[0].width)
    while (rank := max(column.rank for column in kept)) > 0:
        room = width - sum(column.width + GAP for column in kept[1:])
        if room >= NARROWEST if rank <= LAST else _fits(columns[0], folded, wrapped, room):
            break
        leaving = [column for column in kept if column.rank == rank]
        kept = [column for column in kept if column.rank != rank]
        folded += [column for column in leaving if column.folds]
        left_out += [column.name for column in leaving if column.name and not column.folds]
        folded.sort(key=columns.index)
    kept[0] = _with_folded(columns[0], folded, wrapped)
    most = max(NARROWEST, width - _total(kept) + kept[0].width)
    if kept[0].width > most:  # folded anew, lest what is not to be parted is
        kept[0] = _with_folded(columns[0], folded, most)
    kept[0] = replace(kept[0], most=most)
    return kept, left_out


@dataclass(frozen=True)
class Grid:
    """The columns as rich prints them; ``sections`` gives titles of those that begin at a row, perhaps empty ones.

    rich's own table would take a minute for ten thousand rows.
    """

    columns: Sequence[Column]
    sections: Mapping[int, str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The header, a rule and the rows; what does not fit the terminal is cut, with a sign of it."""
        cut = options.max_width if _total(self.columns) > options.max_width else None
        headers = [column.header.split("\n") for column in self.columns]
        tallest = max(map(len, headers))
        lines = ([""] * (tallest - len(header)) + header for header in headers)
        top = [_padded(column, text) for column, text in zip(self.columns, lines, strict=True)]
        yield from self._row(top, (), cut)
        yield from (Segment("─" * min(_total(self.columns), options.max_width)), Segment.line())
        rows = zip(*(_blocks(console, column) for column in self.columns), strict=True)
        styles = zip_longest(*(column.styles if console.color_system else () for column in self.columns))
        for index, (cells, own) in enumerate(zip_longest(rows, styles, fillvalue=())):
            if index in self.sections:
                yield Segment.line()
                if self.sections[index]:
                    yield plain(self.sections[index], "italic")
            yield from self._row(cells, own, cut)

    def _row(self, cells: Sequence[list[str]], styles: Sequence[str | None], cut: int | None) -> Iterator[Segment]:
        """The cells' lines beside each other."""
        for number in range(max(map(len, cells))):
            pieces = [
                lines[number] if number < len(lines) else " " * column.width
                for column, lines in zip(self.columns, cells, strict=True)
            ]
            whole = (" " * GAP).join(pieces).rstrip()
            if cut is not None and cell_len(whole) > cut:
                yield Segment(set_cell_size(whole, cut - 1) + "…")
            elif any(styles):
                yield from _styled(pieces, styles)
            else:
                yield Segment(whole)
            yield Segment.line()


def _styled(pieces: Sequence[str], styles: Sequence[str | None]) -> Iterator[Segment]:
    plain_text = ""
    for piece, style in zip(pieces, styles, strict=True):
        cell = piece.strip()
        if style and cell:
            before, _, after = piece.partition(cell)
            yield from (Segment(plain_text + before), Segment(cell, Style.parse(style)))
            plain_text = after + " " * GAP
        else:
            plain_text += piece + " " * GAP
    yield Segment(plain_text.rstrip())


def _blocks(console: Console, column: Column) -> list[list[str]]:
    """The lines of each cell, as wide as the column."""

    def lines(cell: str) -> Iterator[str]:
        for line in cell.split("\n"):
            if column.most is None or _width(line) <= column.most:
                yield line
            else:
                wrapped = Text(line).wrap(console, column.most, overflow="fold")
                yield from (part.plain.rstrip() for part in wrapped)

    return [_padded(column, [*lines(cell)]) for cell in column.cells]


def _padded(column: Column, lines: Sequence[str]) -> list[str]:
    width = column.width
    if column.right:
        return [" " * (width - _width(line)) + line for line in lines]
    return [line + " " * (width - _width(line)) for line in lines]


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


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


def figured(header: str, figures: Sequence[Figure], rank: int, sign: str = "", high: bool = False) -> Column:
    """A column of figures; see ``aligned``."""
    return Column(header, aligned(figures, sign), rank, values=tuple(figure.value for figure in figures), high=high)


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


def _fits(first: Column, folded: Sequence[Column], wrapped: int, room: int) -> bool:
    """Whether the first column with the folded ones has room; of thousands of rows they are wrapped only if need be."""
    if first.width > room:
        return False
    return not folded or wrapped <= room or _with_folded(first, folded, wrapped).width <= room


def _with_folded(first: Column, folded: Sequence[Column], width: int) -> Column:
    if not folded:
        return first

    def cell(index: int) -> str:
        words = ", ".join(_unparted(column, index) for column in folded if column.cells[index])
        lines = textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  ")
        return "\n".join([first.cells[index], *lines]).replace("\xa0", " ")

    return replace(first, cells=tuple(cell(index) for index in range(len(first.cells))))


def _unparted(column: Column, index: int) -> str:
    # hard blanks, so that a name is not parted from what it names, nor what is short at all
    text = column.said(index)
    return text.replace(" ", "\xa0", 1 if column.named or len(text) > FOLDED_WIDTH // 2 else -1)


def decimals(error: float) -> int:
    """As many as show two digits of the error."""
    return min(max(1 - math.floor(math.log10(error)), 0), 4)


def _fixed(value: float | None, places: int, most: int, sign: str = "") -> str:
    """With blanks where others have further decimals."""
    if value is None:
        return ""
    return f"{value:{sign}.{places}f}" + " " * (most - places + (places == 0 < most))
