"""What a trained density says of the rows of a table: columns matched by name, batches in, batches out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flowbench.console import note, plural
from flowbench.data.tables.matching import matched, named, numbers
from flowbench.data.tables.records import Fault, Source
from flowbench.errors import DataError
from flowbench.flows.core.density import Float64
from flowbench.use.rows import RowReader
from flowbench.use.trained import Trained

FAR = "so far out that the density is beyond floating point"

OnBadRow = Literal["stop", "skip", "nan"]


class BadRows:
    """What becomes of rows that have no density, and how many of which kind there were."""

    def __init__(self, rule: OnBadRow = "stop") -> None:
        self.rule = rule
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        """In words, "3 rows skipped: 2 with a missing value, 1 that is no number"; nothing where there were none."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.most_common())
        done = "skipped" if self.rule == "skip" else "answered with nan"
        return f"{plural(self.counts.total(), 'row')} {done}: {kinds}" if kinds else ""


@dataclass(frozen=True, eq=False)
class Scored:
    """Some rows (n, G + D) with their log-densities (n,) in nats; NaN is that of a bad one.

    ``numbers`` (n,) count the rows of the table from 1; ``ids`` (n,) are the text that names them, where it is wanted.
    """

    numbers: NDArray[np.int64]
    rows: Float64
    lls: Float64
    ids: NDArray[Any] | None

    def __getitem__(self, which: NDArray[Any] | slice) -> Scored:
        ids = None if self.ids is None else self.ids[which]
        return Scored(self.numbers[which], self.rows[which], self.lls[which], ids)


def scored(trained: Trained, source: Source, bad: BadRows, ids: str | None = None) -> Iterator[Scored]:
    """The table's rows with their log-densities, in order, some at a time as they come.

    Columns may come in any order; those that the flow was not trained on are left out, with a note. Rows that have no
    density are dealt with by ``bad``; the column ``ids`` names rows.

    Raises:
        DataError: a column is missing, or of no numbers; or a row has no density, and all before it are answered.
    """
    columns = matched_columns(trained, source, () if ids is None else (ids,))
    density = trained.density
    for some in RowReader(source, density.classed, columns, ids, density.unfit).read():
        rows, faults = some.rows, some.faults
        lls = np.full(len(rows), np.nan)
        sound = np.setdiff1d(np.arange(len(rows)), list(faults)) if faults else np.arange(len(rows))
        if len(sound):
            lls[sound] = density.log_prob(rows[sound] if faults else rows)
        lost = sound[~np.isfinite(lls[sound])]
        faults |= {
            int(row): Fault(FAR, "the values lie so far out that the density is beyond floating point,", "leave it out")
            for row in lost
        }
        lls[lost] = np.nan
        found = Scored(np.arange(some.first + 1, some.first + 1 + len(rows)), rows, lls, some.ids)
        if faults and bad.rule == "stop":
            row = min(faults)
            if row:
                yield found[:row]
            raise _refusal(source, some.first + row + 1, faults[row], "; --on-bad-row skip passes such rows over")
        bad.counts.update(fault.kind for fault in faults.values())
        yield found[np.isfinite(lls)] if faults and bad.rule == "skip" else found


def _refusal(source: Source, row: int, fault: Fault, instead: str = "") -> DataError:
    return DataError(f"{source.name}: {fault.message} in row {row}", fault.hint + instead)


def matched_columns(trained: Trained, table: Source, known: Sequence[str] = ()) -> tuple[str, ...]:
    """The table's names of the columns that the flow was trained on, in its order: first of those that it is given.

    Others are left out, with a note unless they are ``known``.

    Raises:
        DataError: one is missing; the hint says which of the others may be it.
    """
    if trained.columns is None:
        dim = len(trained.given) + trained.density.dim
        there = tuple(name for name in table.columns if name not in known)
        if len(there) != dim:
            message = f"the flow was trained on {dim} columns, {table.name} has {len(there)}"
            raise DataError(message, "give it all of them and no others")
        return there
    return _found(table, (*trained.given, *trained.columns), known)


def _found(table: Source, wanted: tuple[str, ...], known: Sequence[str] = ()) -> tuple[str, ...]:
    """The table's names of the ``wanted`` columns, in their order; see `matched`.

    Raises:
        DataError: one is missing; the hint says which of the others may be it.
    """
    if table.columns == numbers(len(wanted)) != wanted:
        note(f"{table.name} has no names: its columns are taken in the order of training, {named(wanted)}")
        return table.columns
    return matched(table.name, table.columns, wanted, known)


def given_values(trained: Trained, table: Source) -> Float64:
    """What a table gives to each draw, (N, G): numbers, and codes of classes.

    Raises:
        DataError: a column is missing, or a value; or a class was not trained on.
    """
    columns = _found(table, trained.given, known=trained.columns or ())
    parts = [np.empty((0, len(columns)))]
    for some in RowReader(table, trained.density.given, columns).read():
        if some.faults:
            row = min(some.faults)
            raise _refusal(table, some.first + row + 1, some.faults[row])
        parts.append(some.rows)
    return np.concatenate(parts)
