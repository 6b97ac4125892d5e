"""The files that one table comes from: one that is split, and those whose rows are all validation or all test rows.

To what reads a table they are one, with the rows of each file after those of the one before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowbench.console import note, warn
from flowbench.data.dataset import Float64
from flowbench.data.sources import raw
from flowbench.data.tables.files import Part, TableFile, open_table
from flowbench.data.tables.matching import matched, numbers
from flowbench.data.tables.options import TEST, TRAIN, VALIDATION, Seeds, TableOptions, assign
from flowbench.errors import DataError, UsageError


class HeldOut(NamedTuple):
    """Files or folders whose rows are all of a split; None where that is drawn from the table."""

    validation: Path | None = None
    test: Path | None = None

    @property
    def files(self) -> dict[int, Path]:
        """By the part that they are."""
        pairs = {VALIDATION: self.validation, TEST: self.test}
        return {part: path for part, path in pairs.items() if path is not None}

    def refuse_idle(self, options: TableOptions) -> None:
        """Raise UsageError where ``options`` say how to split a table of which all rows are trained on."""
        usual = TableOptions()
        idle = {
            "--split": options.split != usual.split,
            "--test-fraction": options.test_fraction != usual.test_fraction,
        }
        for option in (option for option, given in idle.items() if given and len(self.files) == 2):
            raise UsageError(
                f"{option} has no effect: validation and test rows have files of their own",
                "leave it out; or leave out --validation-data, and those rows are drawn from the table",
            )


@dataclass(frozen=True, eq=False)
class Sources(TableFile):
    """A table in one or more ``tables``, the first of which is split; the others are the parts that ``roles`` say."""

    tables: tuple[TableFile, ...]
    roles: tuple[int, ...]
    _ends: list[int] = field(default_factory=list)
    """Rows up to the end of each table that has been read."""

    @property
    def drawn(self) -> tuple[int, ...]:
        """The parts that are drawn from the first table."""
        return tuple(part for part in (VALIDATION, TEST) if part not in self.roles)

    @property
    def label(self) -> str:
        """The paths of all of them."""
        return " + ".join(str(table.path) for table in self.tables)

    @property
    def name(self) -> str:
        """As ``label``, without their folders."""
        return " + ".join(table.path.name for table in self.tables)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Float64]:
        """See `TableFile`; no batch has rows of two tables."""
        self._ends.clear()
        rows = 0
        for table in self.tables:
            for batch in table.batches(self.columns if columns is None else columns):
                rows += len(batch)
                yield batch
            self._ends.append(rows)

    def which(self, row: int) -> int:
        """The number of the table, from 0, that has this row, from 1, of all that were read."""
        return min(bisect_right(self._ends, row - 1), len(self.tables) - 1)

    def locate(self, row: int) -> tuple[Path, int]:
        """See `TableFile`."""
        table = self.which(row)
        return self.tables[table].path, row - (self._ends[table - 1] if table else 0)

    def assign(
        self, usable: Sequence[int], options: TableOptions, seeds: Seeds, groups: NDArray[np.int32] | None
    ) -> NDArray[np.int8]:
        """The part of each row (N,) of those that are ``usable``, so many of each table; see `options.assign`.

        Raises:
            DataError: there are too few rows, or groups, or none in one of the tables.
        """
        self.refuse_empty([end - (self._ends[i - 1] if i else 0) for i, end in enumerate(self._ends)])
        for table, rows in zip(self.tables, usable, strict=True):
            if not rows:
                message = f"{table.path} has no rows without missing values"
                raise DataError(message, "give it one row at the least")
        first = assign(usable[0], options, seeds, groups, self.drawn) if self.drawn else _all(usable[0], TRAIN)
        return np.concatenate([first, *map(_all, usable[1:], self.roles)])

    def refuse_empty(self, rows: Sequence[int | None]) -> None:
        """Raise DataError if one of the tables has no ``rows``, as far as those are known."""
        for table, n in zip(self.tables, rows, strict=True):
            if n == 0:
                raise DataError(f"{table.path} is an empty table: it has no rows", "give it one row at the least")

    def digests(self) -> list[list[str]]:
        """The sha256 of the files of each table; a file that is given for two parts is warned of."""
        found = [[raw.hash_file(file, "sha256") for file in table.files] for table in self.tables]
        for (i, one), (j, other) in combinations(enumerate(found), 2):
            if set(one) & set(other):
                use = "choose the epoch" if i else "are trained on"
                warn(f"{self.tables[j].path} has the content of {self.tables[i].path}, whose rows {use}")
        return found


def join(table: TableFile, held_out: HeldOut, wanted: Sequence[str], group: str | None = None) -> Sources:
    """The table and what is held out, of which only the ``wanted`` columns are used; ``group`` need not be there.

    Raises:
        DataError: a file is damaged, or has not all of these columns.
    """
    others = [_aligned(open_table(path), table, tuple(wanted), group) for path in held_out.files.values()]
    tables = (table, *others)
    files, parts = (tuple(x for each in tables for x in getattr(each, name)) for name in ("files", "parts"))
    return Sources(table.path, files, table.columns, parts, tables, tuple(held_out.files))


def _aligned(other: TableFile, table: TableFile, wanted: tuple[str, ...], group: str | None) -> TableFile:
    """The ``other`` with the names of the table's columns: by name in any order, or by position if one has no names."""
    nameless = [each for each in (other, table) if each.columns == numbers(len(each.columns))]
    if not nameless or (len(nameless) == 1 and set(wanted) <= set(other.columns)):
        matched(other.path, other.columns, wanted, known=table.columns)
        return other
    there = len(other.columns)
    names = table.columns[:-1] if group == table.columns[-1] and there < len(table.columns) else table.columns
    if there != len(names):
        raise DataError(
            f"{other.path} has {there} columns and {table.path} has {len(table.columns)}; "
            "without names they are matched by position",
            "give both the same columns in the same order, or names (.csv, .parquet, or .npz of named columns)",
        )
    if names == other.columns:
        return other
    note(f"{nameless[0].path} has no names: the columns of {other.path} are taken in the order of {table.path}")
    own = dict(zip(names, other.columns, strict=True))
    return TableFile(other.path, other.files, names, tuple(_Renamed(part, own) for part in other.parts))


class _Renamed:
    """A file whose columns are called otherwise: ``own`` has the file's names by the new ones."""

    def __init__(self, part: Part, own: dict[str, str]) -> None:
        self._part, self._own = part, own
        self.names = tuple(own)
        self.text = frozenset(name for name, its in own.items() if its in part.text)
        self.rows = part.rows

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        return self._part.batches([self._own[name] for name in columns])

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        return self._part.labels(self._own[column])


def _all(rows: int, part: int) -> NDArray[np.int8]:
    return np.full(rows, part, np.int8)
