"""What every form of output is made of: columns of plain cells, what stands above them and below. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType

from flowbench.console import UNLIMITED
from flowbench.report.layout import Column, Grid, fitted, plain, without_common


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written.

    ``common`` is what is the same for all runs, ``sections`` has the titles of parts by the rows at which they begin.
    """

    heading: str
    common: str
    columns: tuple[Column, ...]
    sections: dict[int, str]
    notes: tuple[str, ...]


def sheet(heading: str, columns: Sequence[Column], lines: int, sections: dict[int, str], notes: Sequence[str]) -> Sheet:
    """The columns without those that say the same of each of the first ``lines`` rows, which are runs."""
    kept, common = without_common(columns, lines)
    return Sheet(heading, common, tuple(kept), sections, tuple(notes))


def show(sheets: Sequence[Sheet], console: Console) -> None:
    """Print sheets to fit a terminal; with every column and unwrapped where the console is no terminal."""
    if not console.is_terminal:
        console.width = UNLIMITED
    for index, each in enumerate(sheets):
        if index:
            console.print()
        console.print(render(each, console.width))


def render(found: Sheet, width: int) -> RenderableType:
    """The sheet for a terminal of that many columns."""
    columns, left_out = fitted(found.columns, width)
    notes = list(found.notes)
    if left_out:
        notes.append(f"* left out at this width: {', '.join(left_out)}; a wider terminal, a pipe or --json has all")
    return Group(
        plain(found.heading, "bold"),
        *([plain(f"all runs: {found.common}")] if found.common else []),
        Grid(columns, found.sections),
        *(plain(note, "dim") for note in notes),
    )
