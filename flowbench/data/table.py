"""A user's own table as a dataset: checked, split 80/10/10 by seed, standardised."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowbench import console
from flowbench.console import DataError
from flowbench.data import raw
from flowbench.data.card import Card
from flowbench.data.dataset import Dataset, Float32, Float64
from flowbench.data.table_files import OPENERS, open_table

_VERSION = 1
_FEWEST_ROWS = 10  # of which a tenth is one row


def is_path(data: str) -> bool:
    """Whether ``data`` means a file, not a known dataset."""
    return data.lower().endswith(tuple(OPENERS)) or "/" in data or os.sep in data


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of numbers: ``values`` (N, D) float64; a missing value is NaN."""

    columns: tuple[str, ...]
    values: Float64


def load_table(path: Path, *, seed: int) -> Dataset:
    """The numeric table in ``path``, its rows shuffled by ``seed`` and split 80/10/10.

    Every column is standardised with mean and population standard deviation of the training rows, in float64; the
    dataset's ``location``, ``scale`` and ``unit_log_det`` lead back to the table's own units.

    Raises:
        DataError: no density can be learnt of this table; the message names file and column.
    """
    source = open_table(path)
    table = Table(source.columns, np.concatenate([np.empty((0, len(source.columns))), *source.batches()]))
    _check(path, table)
    n, dim = table.values.shape
    order = np.random.RandomState(seed).permutation(n)
    n_test = n_validation = n // 10
    train, validation, test = np.split(table.values[order], [n - n_validation - n_test, n - n_test])
    location, scale = _location_and_scale(path, table, train)

    def standardise(rows: Float64) -> Float32:
        return ((rows - location) / scale).astype(np.float32, order="C")

    content = raw.hash_file(path, "sha256")
    return Dataset(
        train=standardise(train),
        validation=standardise(validation),
        test=standardise(test),
        columns=table.columns,
        name=path.name,
        card=_card(path, dim, (len(train), len(validation), len(test))),
        fingerprint=hashlib.sha256(f"table v{_VERSION} seed {seed}\n{content}\n".encode()).hexdigest(),
        location=location,
        scale=scale,
        unit_log_det=float(-np.log(scale).sum()),
    )


def _check(path: Path, table: Table) -> None:
    n, dim = table.values.shape
    if n == 0:
        raise DataError(f"{path} is an empty table: it has no rows", "expected at least 10 rows of numbers")
    if dim == 0:
        raise DataError(f"{path} has no columns", "expected at least one column of numbers")
    _refuse(path, table, np.isnan(table.values), "missing value", "fill it in, or leave its row out")
    _refuse(path, table, np.isinf(table.values), "infinite value", "replace it, or leave its row out")
    if n < _FEWEST_ROWS:
        rows = "1 row" if n == 1 else f"{n} rows"
        hint = f"expected at least {_FEWEST_ROWS}, to be split into 80% training, 10% validation, 10% test"
        raise DataError(f"{path} has only {rows}", hint)
    constant = table.values.min(axis=0) == table.values.max(axis=0)
    if constant.any():
        column = table.columns[int(np.argmax(constant))]
        value = table.values[0, constant][0]
        raise DataError(f"{path}: column {column!r} is constant ({value:g})", "drop it: it has no density")
    # beyond 2^53 every float64 is whole
    whole = ((table.values == np.rint(table.values)) & (np.abs(table.values) < 2**53)).all(axis=0)
    discrete = [column for column, is_whole in zip(table.columns, whole, strict=True) if is_whole]
    if discrete:
        console.warn(
            f"{path}: whole numbers only in {', '.join(map(repr, discrete))}: a density of them grows without bound; "
            "adding uniform noise of width 1 makes it comparable"
        )


def _refuse(path: Path, table: Table, bad: NDArray[np.bool_], what: str, hint: str) -> None:
    counts = bad.sum(axis=0)
    if counts.any():
        column = int(np.argmax(counts > 0))
        first = int(np.argmax(bad[:, column])) + 1
        number = f"1 {what}" if counts[column] == 1 else f"{counts[column]} {what}s, the first"
        raise DataError(f"{path}: column {table.columns[column]!r} has {number} in row {first}", hint)


def _location_and_scale(path: Path, table: Table, train: Float64) -> tuple[Float64, Float64]:
    # values near the ends of float64 and float32 overflow here: they are refused below, by name
    with np.errstate(all="ignore"):
        location = train.mean(axis=0)
        scale = train.std(axis=0)
        farthest = np.abs((table.values - location) / scale).max(axis=0)
    constant = train.min(axis=0) == train.max(axis=0)
    unfit = ~np.isfinite(scale) | (scale == 0) | ~(farthest < np.finfo(np.float32).max)
    for column, is_constant, is_unfit in zip(table.columns, constant, unfit, strict=True):
        if is_constant:
            raise DataError(
                f"{path}: column {column!r} is constant in the training rows: it takes other values too rarely",
                "drop it, or give more rows or another --seed",
            )
        if is_unfit:
            raise DataError(f"{path}: column {column!r} has values or a spread beyond floating point", "rescale it")
    return location, scale


def _card(path: Path, dim: int, rows: tuple[int, int, int]) -> Card:
    n_train, n_validation, n_test = rows
    return Card(
        name=path.name,
        version=_VERSION,
        title=path.name,
        source_url=str(path),
        licence="the table's own",
        citation="",
        dim=dim,
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        space="standardised",
    )
