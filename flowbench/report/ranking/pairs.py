"""The paired differences of all lines of a table, each with its interval. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from flowbench.errors import NothingToCompareError
from flowbench.report.layout import Column, decimals, given_groups, without_common
from flowbench.report.ranking.columns import columns, heading
from flowbench.report.ranking.document import SCHEMA_VERSION
from flowbench.report.ranking.lines import LEVEL, NOT_CHOSEN, Line, paired, rows_of, two_sided, unpaired
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.ranking.tables import Table
from flowbench.report.runs import has_rows_of
from flowbench.results.inference import Difference, Lls, holm

MOST = 40
"""Lines of a table that are paired: 780 pairs."""

MOST_SHOWN = 12
"""Lines that a terminal shows of them."""


@dataclass(frozen=True)
class Pair:
    """Row minus column, in nats, by their places; ``p`` is two-sided and adjusted by Holm over all pairs."""

    row: int
    column: int
    difference: Difference
    p: float

    @property
    def half_width(self) -> float:
        """Of the pair's own 95% interval, in nats."""
        return self.difference.quantile(0.975)


@dataclass(frozen=True)
class Matrix:
    """The pairs of a table's first lines: of ``table`` those that are paired, in its order; each pair once."""

    table: Table
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def matrices(tables: Sequence[Table]) -> list[Matrix]:
    """The pairs of each table that has any.

    Raises:
        NothingToCompareError: none has two lines with the likelihoods of the same test rows beside their records.
    """
    found = [matrix for matrix in map(matrix, tables) if matrix.pairs]
    if not found:
        raise NothingToCompareError(
            "no two lines have the likelihoods of the same test rows, row by row, beside their records",
            "a run leaves them in a .npy file: keep it beside its .json",
        )
    return found


def matrix(table: Table) -> Matrix:
    """The pairs of a table's first lines, none where no two have their rows' likelihoods."""
    candidates = [line for line in table.lines if line.ended]
    chosen = _of_the_same_rows(candidates[:MOST])
    pairs = [(i, j, paired(chosen[i][1], chosen[j][1])) for i, j in combinations(range(len(chosen)), 2)]
    notes = [f"the first {MOST} of {len(candidates):,} lines are paired"] if len(candidates) > MOST else []
    without = min(len(candidates), MOST) - len(chosen)
    of = min(len(candidates), MOST)
    notes += [f"not paired, as other rows or none are beside their records: {without} of {of} lines"] if without else []
    return _of(table, [line for line, _ in chosen], pairs, notes)


def unpaired_matrix(table: Table) -> Matrix:
    """The same of lines of which only means and their errors are known: a difference may be real and not be seen."""
    chosen = [line for line in table.lines if line.ended and has_rows_of(line.record, table.lines[0].record)][:MOST]
    found = [(i, j, unpaired(chosen[i], chosen[j])) for i, j in combinations(range(len(chosen)), 2)]
    pairs = [(i, j, each) for i, j, each in found if each is not None]
    note = "not paired, since the likelihoods of the rows are not there: a difference may be real and not be seen"
    return _of(table, chosen, pairs, [note])


def _of(table: Table, lines: Sequence[Line], pairs: Sequence[tuple[int, int, Difference]], notes: list[str]) -> Matrix:
    adjusted = holm([two_sided(found) for _, _, found in pairs])
    if any(not found.seeds_dof for *_, found in pairs):
        notes.append("of one seed, ± is the error over test rows alone: another seed may change more than that")
    if table.task.test_groups:
        notes.append(given_groups(table.task.test_groups))
    said = f"± is each pair's own 95% interval; * not by chance (p at most 0.05, by Holm over {len(pairs)} pairs)"
    return Matrix(
        replace(table, lines=tuple(lines), references=(), published=()),
        tuple(Pair(i, j, found, float(p)) for (i, j, found), p in zip(pairs, adjusted, strict=True)),
        (*notes, said),
    )


def _of_the_same_rows(lines: Sequence[Line]) -> list[tuple[Line, list[Lls]]]:
    """The most lines that have the likelihoods of the same test rows, with these."""
    groups: list[list[tuple[Line, list[Lls]]]] = [[]]
    for line in lines:
        if (rows := rows_of(line)) is not None:
            group = next((group for group in groups if group and _is_of((line, rows), group)), None)
            if group is None:
                groups.append(group := [])
            group.append((line, rows))
    return max(groups, key=len)


def _is_of(one: tuple[Line, list[Lls]], group: Sequence[tuple[Line, list[Lls]]]) -> bool:
    first, rows = group[0]
    return has_rows_of(one[0].record, first.record) and one[1][0].shape == rows[0].shape


def matrix_sheet(matrix: Matrix, most: int = MOST) -> Sheet:
    """The first ``most`` lines against each other, ready to be written."""
    lines, notes = matrix.table.lines[:most], list(matrix.notes)
    if len(matrix.table.lines) > most:
        notes.insert(0, f"the first {most} of {len(matrix.table.lines)} lines; --format csv has all")
    model, *others = columns(replace(matrix.table, lines=lines))
    numbered = replace(model, cells=tuple(f"{n} {name}" for n, name in enumerate(model.cells, start=1)))
    cells = [["" for _ in lines] for _ in lines]
    for pair in matrix.pairs:
        if pair.row < len(lines) and pair.column < len(lines):
            cells[pair.row][pair.column], cells[pair.column][pair.row] = _cells(pair)
    found = [
        numbered,
        *(column for column in others if column.folds),
        Column("", tuple(map(_not_chosen, lines)), rank=14, folds=True, named=False, right=False),
        *(Column(f"{n + 1}", tuple(row[n] for row in cells), rank=2 + n) for n in range(len(lines))),
    ]
    title = f"{heading(matrix.table)}; row − column"
    return sheet(title, found, len(lines), {}, notes)


def _not_chosen(line: Line) -> str:
    return NOT_CHOSEN if line.mark == NOT_CHOSEN else ""


def _cells(pair: Pair) -> tuple[str, str]:
    """Row minus column, and column minus row."""
    nats, error, star = pair.difference.mean, pair.half_width, "*" if pair.p <= LEVEL else " "
    places = decimals(error) if error else 2
    below = f"\n± {error:.{places}f} "
    return f"{nats:+.{places}f}{star}{below}", f"{-nats:+.{places}f}{star}{below}"


def pairs_document(found: Sequence[Matrix]) -> dict[str, Any]:
    """The pairs as strict JSON has them."""
    tables = [
        {
            "data": matrix.table.task.data,
            "data_version": matrix.table.task.data_version,
            "data_fingerprint": matrix.table.task.data_fingerprint,
            "lines": [
                {"model": each.model, "mark": each.mark, "settings": each.settings, "seeds": each.seeds}
                for each in matrix.table.lines
            ],
            "pairs": [_raw(pair) for pair in matrix.pairs],
            "notes": list(matrix.notes),
        }
        for matrix in found
    ]
    return {"kind": "pairs", "schema_version": SCHEMA_VERSION, "tables": tables}


def pairs_rows(found: Sequence[Matrix]) -> list[dict[str, Any]]:
    """The pairs as CSV has them: one row a pair."""
    return [row for matrix in found for row in _csv_rows(matrix)]


def _csv_rows(matrix: Matrix) -> list[dict[str, Any]]:
    task, lines = matrix.table.task, matrix.table.lines
    kept, _ = without_common(columns(matrix.table), len(lines))
    telling = [column for column in kept[1:] if column.folds]
    said = [[column.said(index) for column in telling if column.cells[index]] for index in range(len(lines))]
    names = [
        ", ".join(filter(None, [line.model, *words, _not_chosen(line)]))
        for line, words in zip(lines, said, strict=True)
    ]
    about = {"data": task.data, "data_version": task.data_version, "data_fingerprint": task.data_fingerprint}
    return [about | _raw(pair) | {"row": names[pair.row], "column": names[pair.column]} for pair in matrix.pairs]


def _raw(pair: Pair) -> dict[str, Any]:
    found, half = pair.difference, pair.half_width
    return {
        "row": pair.row,
        "column": pair.column,
        "difference_nats": found.mean,
        "low_nats": found.mean - half,
        "high_nats": found.mean + half,
        "rows_stderr_nats": found.rows_stderr,
        "seeds_stderr_nats": found.seeds_stderr,
        "p_holm": pair.p,
        "is_significant": pair.p <= LEVEL,
    }
