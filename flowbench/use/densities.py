"""What a trained density says of the rows of a table: columns matched by name, batches in, batches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from flowbench.console import note
from flowbench.data.given import GivenColumn
from flowbench.data.tables.files import TableFile
from flowbench.data.tables.given import coded, complete, with_given
from flowbench.data.tables.matching import matched, named, numbers
from flowbench.errors import DataError
from flowbench.flows.core.density import Float64
from flowbench.use.trained import Trained


def log_probs(trained: Trained, table: TableFile) -> Iterator[Float64]:
    """Log-densities (n,) in nats of the table's rows, in order, some at a time: one a row, all of them finite.

    Columns may come in any order; those that the flow was not trained on are left out, with a note.

    Raises:
        DataError: a column is missing, or of no numbers; a value is missing or infinite; a density is beyond doubles.
    """
    columns = matched_columns(trained, table)
    given = renamed(trained.density.given, columns)
    first = 1
    for rows in with_given(table, columns[: len(given)], columns[len(given) :], coded(table, given)):
        bad = np.argwhere(~np.isfinite(rows))
        if len(bad):
            row, column = bad[0]
            what = "a missing value" if np.isnan(rows[row, column]) else "an infinite value"
            hint = "fill it in, or leave its row out: it has no density"
            raise DataError(f"{table.path}: column {columns[column]!r} has {what} in row {first + row}", hint)
        lls = trained.density.log_prob(rows)
        lost = np.flatnonzero(~np.isfinite(lls))
        if len(lost):
            raise DataError(
                f"{table.path}: row {first + lost[0]} lies so far out that its density is beyond floating point",
                "leave it out",
            )
        yield lls
        first += len(rows)


def matched_columns(trained: Trained, table: TableFile) -> tuple[str, ...]:
    """The table's names of the columns that the flow was trained on, in its order: first of those that it is given.

    Raises:
        DataError: one is missing; the hint says which of the others may be it.
    """
    if trained.columns is None:
        dim = len(trained.given) + trained.density.dim
        if len(table.columns) != dim:
            there = len(table.columns)
            raise DataError(f"the flow was trained on {dim} columns, {table.path} has {there}", "give it all of them")
        return table.columns
    return _found(table, (*trained.given, *trained.columns))


def _found(table: TableFile, wanted: tuple[str, ...], known: Sequence[str] = ()) -> tuple[str, ...]:
    """The table's names of the ``wanted`` columns, in their order; see `matched`.

    Raises:
        DataError: one is missing; the hint says which of the others may be it.
    """
    if table.columns == numbers(len(wanted)) != wanted:
        note(f"{table.path} has no names: its columns are taken in the order of training, {named(wanted)}")
        return table.columns
    return matched(table, wanted, known)


def given_values(trained: Trained, table: TableFile) -> Float64:
    """What a table gives to each draw, (N, G): numbers, and codes of classes.

    Raises:
        DataError: a column is missing, or a value; or a class was not trained on.
    """
    columns = _found(table, trained.given, known=trained.columns or ())
    given = renamed(trained.density.given, columns)
    parts, start = [np.empty((0, len(columns)))], 0
    for rows in with_given(table, columns, (), coded(table, given)):
        complete(table, columns, rows, start, dropna=False)
        parts.append(rows)
        start += len(rows)
    return np.concatenate(parts)


def renamed(given: Sequence[GivenColumn], columns: Sequence[str]) -> list[GivenColumn]:
    """Given columns by a table's names of them, which come first in ``columns``."""
    return [each.model_copy(update={"name": name}) for each, name in zip(given, columns, strict=False)]
