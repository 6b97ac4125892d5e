"""Short names for the lines of a table, so that each is another's in no picture. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from flowbench.report.figures.style import PALETTE
from flowbench.report.ranking.columns import columns
from flowbench.report.ranking.tables import Table


def labels(table: Table) -> list[str]:
    """Of each line its place and its model, and of lines of one model what tells them apart.

    The place alone tells lines apart where there is no room, or no colour, for more.
    """
    model, *others = columns(table)
    names = list(model.cells[: len(table.lines)])
    telling = [column for column in others if column.folds]
    return [
        ", ".join([f"{index + 1} {name}", *(c.said(index) for c in telling if _tells(c.cells, names, index))])
        for index, name in enumerate(names)
    ]


def _tells(cells: Sequence[str], names: Sequence[str], index: int) -> bool:
    same = {cells[other] for other, name in enumerate(names) if name == names[index]}
    return bool(cells[index]) and len(same) > 1


def colour(name: str) -> str:
    """A line's colour in every picture of its table, of its name."""
    return PALETTE[(int(place(name)) - 1) % len(PALETTE)]


def place(name: str) -> str:
    """A line's place, of its name."""
    return name.partition(" ")[0]
