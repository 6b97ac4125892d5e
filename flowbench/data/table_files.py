"""Reading a user's own table: CSV, TSV, Parquet or .npy, strictly, and never unpickling."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowbench import console
from flowbench.console import DataError
from flowbench.data.dataset import Float64, RawArray

SUFFIXES = (".csv", ".tsv", ".parquet", ".npy")


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of numbers: ``values`` (N, D) float64; a missing value is NaN."""

    columns: tuple[str, ...]
    values: Float64


def read_table(path: Path) -> Table:
    """The whole table in ``path``.

    Raises:
        DataError: it is missing, unreadable, of another kind, has duplicate or nameless columns, or a column of text.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}", "give a path to a .csv, .tsv, .parquet or .npy file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} is of no kind that flowbench reads", f"it reads {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is an empty file", "expected a table with rows")
    return _read_npy(path) if suffix == ".npy" else _from_arrow(path, _read_arrow(path, suffix))


def _read_npy(path: Path) -> Table:
    try:
        # not numpy.load, which also opens archives and pickles
        with path.open("rb") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = "it holds pickled objects" if "pickle" in str(error) else str(error)
        raise DataError(f"cannot read {path}: {reason}", "expected what numpy.save writes of numbers") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path} has dtype {array.dtype}, expected real numbers", "convert it with array.astype(float)")
    if array.ndim != 2:
        hint = "a single column is array.reshape(-1, 1)" if array.ndim == 1 else "reshape it to rows and columns"
        raise DataError(f"{path} has shape {array.shape}, expected (rows, columns)", hint)
    return Table(tuple(str(i) for i in range(array.shape[1])), np.asarray(array, np.float64))


def _read_arrow(path: Path, suffix: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if suffix == ".parquet":
            return parquet.read_table(path)
        # one thread, so that an error names its row
        options = csv.ReadOptions(use_threads=False)
        delimiter = "\t" if suffix == ".tsv" else ","
        table = csv.read_csv(path, read_options=options, parse_options=csv.ParseOptions(delimiter=delimiter))
        _check_header(path, table.column_names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip()
        hint = "expected an undamaged file in UTF-8 with one line of column names and as many fields in every row"
        if suffix == ".parquet":
            hint = "it may be cut short or no Parquet file: write it again"
        raise DataError(f"cannot read {path}: {reason}", hint) from error
    return table


def _check_header(path: Path, names: list[str]) -> None:
    if any("\x00" in name for name in names):
        raise DataError(f"{path} is not text in UTF-8", "save it in UTF-8")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|,"):
        raise DataError(
            f"{path} has one column, named {names[0]!r}", "separate columns by commas (.csv) or tabs (.tsv)"
        )
    # 0, 1, 2, ... are the names that pandas gives to columns without any
    if all(_is_number(name) for name in names) and names != [str(i) for i in range(len(names))]:
        raise DataError(f"the first line of {path} holds numbers, expected column names", "put a line of names first")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _from_arrow(path: Path, table: Any) -> Table:
    # how pandas stores a nameless index: row labels, not data
    labels = [name for name in table.column_names if name.startswith("__index_level_")]
    if labels:
        console.note(f"{path}: left out the pandas index ({', '.join(labels)})")
        table = table.drop_columns(labels)
    names = tuple(table.column_names)
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise DataError(f"{path} has more than one column {repeated[0]!r}", "give each column its own name")
    if "" in names:
        hint = "name it; or if it is the index that pandas writes, save with to_csv(index=False)"
        raise DataError(f"column {names.index('') + 1} of {path} has no name", hint)
    if not table.num_rows or not names:
        return Table(names, np.empty((table.num_rows, len(names))))
    return Table(names, np.column_stack([_to_float64(path, name, table[name]) for name in names]))


def _to_float64(path: Path, name: str, column: Any) -> RawArray:
    import pyarrow as pa

    is_numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(test(column.type) for test in is_numeric):
        values = column.to_pylist()
        # a column of text may look like numbers throughout
        row, value = next(((i, v) for i, v in enumerate(values, 1) if not _is_number(v)), (1, values[0]))
        raise DataError(
            f"{path}: column {name!r} is not one of numbers: it holds {value!r} in row {row}",
            "drop the column, or turn it into numbers",
        )
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    # unsafe only in that integers beyond 2^53 are rounded
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
