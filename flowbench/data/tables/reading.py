"""A table read once, from its files into a `Spool`: its profile is taken meanwhile, and its classes are numbered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.files import TableFile
from flowbench.data.tables.given import Classes, complete, numbered, with_given
from flowbench.data.tables.options import TableOptions
from flowbench.data.tables.profile import Profiler
from flowbench.data.tables.sources import Sources
from flowbench.data.tables.spool import Spool
from flowbench.errors import DataError


def read_into(
    source: Sources,
    first: Sequence[str],
    numbers: Sequence[str],
    options: TableOptions,
    classes: Classes,
    profiler: Profiler,
    out: Spool,
) -> tuple[list[int], NDArray[np.int32] | None]:
    """Write the rows without missing values to ``out``, showing all to ``profiler``.

    How many they are of each file, and of the one that is split the numbers of their groups.
    """
    groups = None if options.group is None else _groups(source.tables[0], options.group, dropna=options.dropna)
    kept: list[NDArray[np.int32]] = []
    counts = [0] * len(source.tables)
    start = 0
    for rows in _ahead(with_given(source, first, numbers, classes.codes)):
        table = source.which(start + 1)
        of_group = None if groups is None or table else groups[start : start + len(rows)]
        whole = None if of_group is None else of_group >= 0
        if first:
            values, given = rows[:, : len(first)], len(options.given)
            known = complete(source, first, values, start, given=given, dropna=options.dropna)
            whole = known if whole is None else whole & known
        start += len(rows)
        usable = profiler.add(rows[:, len(first) :] if first else rows, whole, held_out=table > 0)
        rows = rows if usable is None else rows[usable]
        counts[table] += len(rows)
        out.append(rows)
        if of_group is not None:
            kept.append(of_group if usable is None else of_group[usable])
    return counts, None if groups is None else np.concatenate([np.empty(0, np.int32), *kept])


def _ahead(batches: Iterator[Float64]) -> Iterator[Float64]:
    """The same, the next one being read while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _groups(source: TableFile, column: str, *, dropna: bool) -> NDArray[np.int32]:
    """The number of each row's value of this column, (N,), in the order of their first row; -1 where it is missing."""
    found = [np.empty(0, np.int32)]
    for numbers in numbered(source.labels(column), {}):
        found.append(numbers)
        if not dropna and (found[-1] < 0).any():
            row = sum(map(len, found[:-1])) + int(np.argmax(found[-1] < 0)) + 1
            raise DataError(
                f"{source.path}: column {column!r}, by which to split, has a missing value in row {row}",
                "fill it in, or leave its row out (--dropna)",
            )
    return np.concatenate(found)
