"""Given columns of a table: numbers as they are, classes as numbers of their labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.data.tables.arrays import as_labels
from flowbench.data.tables.files import TableFile
from flowbench.errors import DataError

Codes = NDArray[np.int32]

MISSING = ""
"""The label of a value that is missing, where that is a class: what an empty field of a table is read as."""

MOST_LABELS = 1000
"""Of a column of classes that is modelled."""


def numbered(labels: Iterable[NDArray[Any]], numbers: dict[str, int]) -> Iterator[Codes]:
    """The number of each label, -1 where it is missing; one that ``numbers`` does not know yet gets the next."""
    for some in labels:
        yield np.array([-1 if x is None else numbers.setdefault(x, len(numbers)) for x in some], np.int32)


def labels_of(source: TableFile, column: str) -> Iterator[NDArray[Any]]:
    """A column's classes as text, (n,) objects at a time; of numbers, in the same words whatever file they are from."""
    return source.labels(column) if source.is_text(column) else map(as_labels, source.batches([column]))


def with_given(
    source: TableFile, given: Sequence[str], columns: Sequence[str], codes: Mapping[str, Codes]
) -> Iterator[Float64]:
    """Rows (n, G + D): what is given, classes as their ``codes`` (N,) or NaN where those are negative, then columns."""
    read = [name for name in given if name not in codes]
    at = [i for i, name in enumerate(given) if name in codes]
    others = [i for i in range(len(given) + len(columns)) if i not in at]
    start = 0
    for rows in source.batches([*read, *columns]):
        if at:
            some = np.empty((len(rows), len(others) + len(at)))
            some[:, others] = rows
            for i in at:
                code = codes[given[i]][start : start + len(rows)]
                some[:, i] = np.where(code < 0, np.nan, code)
            start += len(rows)
            rows = some  # the same rows, wider
        yield rows


def complete(
    source: TableFile, names: Sequence[str], values: Float64, before: int, *, given: int, dropna: bool
) -> NDArray[np.bool_]:
    """Which of rows whose first columns are ``values`` (n, C) have all of them; ``before`` rows came before.

    So many of these columns are ``given``, the others are categories.

    Raises:
        DataError: a value is infinite, or missing though that is no reason to leave its row out.
    """
    missing = np.isnan(values)
    bad = np.argwhere(np.isinf(values) if dropna else ~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        path, number = source.locate(before + int(row) + 1)
        lacks = bool(missing[row, column])
        what, hint = ("a missing", "fill it in") if lacks else ("an infinite", "replace it")
        name = f"{names[column]!r}, which is given," if column < given else repr(names[column])
        raise DataError(
            f"{path}: column {name} has {what} value in row {number}",
            f"{hint}, or leave its row out"
            + (" (--missing drop)" if lacks else "")
            + (", or have its being missing modelled (--missing indicator)" if lacks and column >= given else ""),
        )
    return np.asarray(~missing.any(axis=1))


class Classes:
    """The classes of given columns and of categories, as they are found: numbered in the order of their first rows."""

    def __init__(
        self, source: TableFile, names: Sequence[str], missing: str = "refuse", modelled: Sequence[str] = ()
    ) -> None:
        self._source = source
        self._numbers: dict[str, dict[str, int]] = {name: {} for name in names}
        self.codes: dict[str, Codes] = {
            name: np.concatenate([np.empty(0, np.int32), *numbered(labels_of(source, name), numbers)])
            for name, numbers in self._numbers.items()
        }
        """Of each column those of all rows (N,), -1 where the value is missing and that is no class."""
        for name in modelled:
            lacking = self.codes[name] < 0
            if missing == "indicator" and lacking.any():
                numbers = self._numbers[name]
                self.codes[name][lacking] = numbers.setdefault(MISSING, len(numbers))

    def refuse_no_classes(self, modelled: Sequence[str]) -> None:
        """Refuse columns whose values are no classes; all rows of the table have been read.

        Raises:
            DataError: most of a column's values are numbers, or hardly any is in more rows than one.
        """
        for name in modelled:
            labels, codes, rows = list(self._numbers[name]), self.codes[name], len(self.codes[name])
            counts = np.bincount(codes[codes >= 0], minlength=len(labels))
            numeric = np.array([_is_number(label) for label in labels], np.bool_)
            if self._source.is_text(name) and counts[numeric].sum() > rows / 2:
                other = labels[int(np.argmin(numeric))]
                path, row = self._source.locate(1 + int(np.argmax(codes == self._numbers[name][other])))
                raise DataError(
                    f"{path}: column {name!r} is not numeric: it holds {other!r} in row {row}",
                    "drop the column (--drop-columns), or convert it to numbers; or --kind COLUMN=category",
                )
            if len(labels) > MOST_LABELS or len(labels) > max(2, rows / 2):
                raise DataError(
                    f"{self._source.path}: column {name!r} has {len(labels):,} different labels in {rows:,} rows: "
                    "it names rows more than it classes them",
                    f"leave it out (--drop-columns {name}); log-prob passes it through (--id {name})",
                )

    def settle(self, name: str, trained: set[int], others: set[int]) -> tuple[tuple[str, ...], Codes]:
        """The labels of the training rows, which have these numbers, in order; and what becomes of each number.

        Raises:
            DataError: one of the ``others``, of validation or test rows, is not among them.
        """
        labels = list(self._numbers[name])
        unseen = sorted({labels[i] for i in others} - {labels[i] for i in trained})
        if unseen:
            # the last: where others were left out, an earlier one may lie in another file
            path, _ = self._source.locate(int(np.flatnonzero(self.codes[name] == labels.index(unseen[0]))[-1]) + 1)
            raise DataError(
                f"{path}: column {name!r} has the class {unseen[0]!r} in no training row: nothing can be learnt of it",
                "leave its rows out, or split otherwise (--split, --split-seed)",
            )
        key = str if self._source.is_text(name) else float
        known = sorted((labels[i] for i in trained), key=key)
        place = {label: i for i, label in enumerate(known)}
        return tuple(known), np.array([place.get(label, -1) for label in labels], np.int32)


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
