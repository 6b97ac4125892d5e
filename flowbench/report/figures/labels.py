"""Short names for the lines of a table, so that each is another's in no picture. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowbench.report.ranking.columns import columns
from flowbench.report.ranking.tables import Table


def labels(table: Table) -> list[str]:
    """Of each line its model, and of lines of one model what tells them apart; a number where nothing else does."""
    model, *others = columns(table)
    names = list(model.cells[: len(table.lines)])
    telling = [column for column in others if column.folds]
    found = [
        ", ".join([name, *(column.said(index) for column in telling if _tells(column.cells, names, index))])
        for index, name in enumerate(names)
    ]
    return _numbered(found)


def _tells(cells: Sequence[str], names: Sequence[str], index: int) -> bool:
    same = {cells[other] for other, name in enumerate(names) if name == names[index]}
    return bool(cells[index]) and len(same) > 1


def _numbered(names: Sequence[str]) -> list[str]:
    often, seen = Counter(names), Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if often[name] > 1 else name)
    return found
