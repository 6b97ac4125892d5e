"""Rows of a table as a density takes them: its columns in their order, classes as their codes, faults by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.discrete import Category
from flowbench.data.given import GivenColumn
from flowbench.data.tables.csv_block import as_number, missing_marks
from flowbench.data.tables.given import MISSING as MISSING_CLASS
from flowbench.data.tables.records import Fault, Records, Source

MISSING, INFINITE, UNKNOWN = "with a missing value", "with an infinite value", "of an unknown class"
OUTSIDE = "with a value outside of its bounds"

Unfit = Callable[[Float64], NDArray[np.bool_]]
"""Which values of rows (n, C) have no density."""

SHOWN = 10
"""Classes that a message names."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows (n, C); ``first`` came before them, ``ids`` (n,) name them, and ``faults`` are by row, from 0."""

    first: int
    rows: Float64
    ids: NDArray[Any] | None
    faults: dict[int, Fault]


class RowReader:
    """Reads a source's ``columns``, of which the ``first`` may have classes; and the text of a column of ``ids``.

    What is ``unfit`` is a fault.
    """

    def __init__(
        self,
        source: Source,
        first: Sequence[GivenColumn | Category],
        columns: Sequence[str],
        ids: str | None = None,
        unfit: Unfit = lambda rows: ~np.isfinite(rows),
    ) -> None:
        self._source, self._columns, self._ids, self._unfit = source, list(columns), ids, unfit
        self._classes = {i: _Classes(columns[i], own) for i, own in enumerate(first) if own.labels}

    def read(self) -> Iterator[Rows]:
        """All rows, some at a time as they come."""
        classes = [self._columns[i] for i in self._classes]
        numbers = [name for name in self._columns if name not in classes]
        text = dict.fromkeys([*classes, *([] if self._ids is None else [self._ids])])
        first = 0
        for records in self._source.read(numbers, list(text)):
            rows, faults = self._assembled(records)
            yield Rows(first, rows, None if self._ids is None else records.text[self._ids], faults)
            first += len(rows)

    def _assembled(self, records: Records) -> tuple[Float64, dict[int, Fault]]:
        faults = dict(records.faults)
        rows = records.numbers
        if self._classes:
            rows = np.empty((len(records.numbers), len(self._columns)))
            rows[:, [i for i in range(len(self._columns)) if i not in self._classes]] = records.numbers
            for i, classes in self._classes.items():
                rows[:, i] = classes.codes(records.text[self._columns[i]], faults)
        bad = self._unfit(rows)
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            if row not in faults:
                faults[row] = self._fault(rows[row], int(bad[row].argmax()))
        return rows, faults

    def _fault(self, row: Float64, column: int) -> Fault:
        kind = MISSING if np.isnan(row[column]) else INFINITE if np.isinf(row[column]) else OUTSIDE
        message = f"column {self._columns[column]!r} has {kind.removeprefix('with ')}"
        if kind == OUTSIDE:
            return Fault(kind, f"{message}, {row[column]:g},", "it has no density there")
        return Fault(
            kind, message, "without it the row has no density: fill it in" if kind == MISSING else "replace it"
        )


class _Classes:
    """The codes of a column's classes, by their labels."""

    def __init__(self, name: str, column: GivenColumn | Category) -> None:
        self._name = name
        self._known: dict[str, float] = {label: code for code, label in enumerate(column.labels)}

    def codes(self, labels: NDArray[Any], faults: dict[int, Fault]) -> Float64:
        """The codes (n,), NaN where a label is missing or unknown."""
        return np.array([self._code(label, row, faults) for row, label in enumerate(labels)], float)

    def _code(self, label: str | None, row: int, faults: dict[int, Fault]) -> float:
        if label is None or row in faults or (label in missing_marks() and label not in self._known):
            return self._known.get(MISSING_CLASS, np.nan)
        number = None if label in self._known else as_number(label)
        # a number is the same class whatever its digits: 1, 1.0, true
        code = self._known.get(label if number is None else f"{number:.17g}")
        if code is not None:
            return code
        known = ", ".join(map(repr, [*self._known][:SHOWN])) + (" and more" if len(self._known) > SHOWN else "")
        message = f"column {self._name!r} has an unknown class, {label!r},"
        faults[row] = Fault(UNKNOWN, message, f"it was trained on {known}")
        return np.nan
