"""Writing a table in batches of rows: CSV, TSV, Parquet or .npy, whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from flowbench.console import printable
from flowbench.data.dataset import Float64
from flowbench.errors import UsageError, did_you_mean
from flowbench.files import written_whole

ROW_GROUP_VALUES = 1 << 20
"""Values in a row group of Parquet at the least: groups of a few rows are slow to read and large."""


Labels = Mapping[str, Sequence[str]]


class Writer(Protocol):
    """A kind of file; of columns that have ``labels`` it holds the one that a value is the place of."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], labels: Labels) -> None: ...

    def write(self, rows: Float64) -> None:
        """Some rows (n, D), or (n,) of a single column."""
        ...

    def close(self) -> None:
        """There are no more; the file itself stays open."""
        ...


class CsvWriter:
    """Text, every number with the digits that lead back to it."""

    delimiter = ","

    def __init__(self, file: BinaryIO, columns: Sequence[str], labels: Labels) -> None:
        from pyarrow import csv as arrow_csv

        names = io.StringIO()
        csv.writer(names, delimiter=self.delimiter, lineterminator="\n").writerow(columns)  # quotes only where needed
        file.write(names.getvalue().encode())
        options = arrow_csv.WriteOptions(include_header=False, delimiter=self.delimiter)
        self._columns = _columns(columns, labels)
        self._writer = arrow_csv.CSVWriter(file, _schema(self._columns), write_options=options)

    def write(self, rows: Float64) -> None:
        """See `Writer`."""
        self._writer.write_batch(_record_batch(rows, self._columns))

    def close(self) -> None:
        """See `Writer`."""
        self._writer.close()


class TsvWriter(CsvWriter):
    """As CSV, separated by tabs."""

    delimiter = "\t"


class ParquetWriter:
    """Parquet, in row groups of a million values."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], labels: Labels) -> None:
        from pyarrow import parquet

        self._columns = _columns(columns, labels)
        self._writer = parquet.ParquetWriter(file, _schema(self._columns))
        self._waiting: list[Float64] = []

    def write(self, rows: Float64) -> None:
        """See `Writer`."""
        self._waiting.append(rows)
        if sum(waiting.size for waiting in self._waiting) >= ROW_GROUP_VALUES:
            self._write_group()

    def close(self) -> None:
        """See `Writer`."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_batch(_record_batch(np.concatenate(self._waiting), self._columns))
        self._waiting = []


class NpyWriter:
    """What ``numpy.load`` reads: (N, D), or (N,) if rows came so. Names of columns have no place in it."""

    def __init__(self, file: BinaryIO, columns: Sequence[str], labels: Labels) -> None:
        self._file = file
        self._values = _columns(columns, labels)
        text = [name for name, own in self._values.items() if own is not None and own.dtype.kind not in "biuf"]
        if text:
            raise UsageError(
                f"a .npy holds numbers, and the classes of {text[0]!r} are text", "write a .csv or .parquet"
            )
        self._rows, self._row_shape = 0, (len(columns),)
        self._write_header()

    def write(self, rows: Float64) -> None:
        """See `Writer`."""
        self._rows += len(rows)
        self._row_shape = rows.shape[1:]
        if any(labels is not None for labels in self._values.values()):
            rows = np.stack(_by_column(rows, self._values), axis=1)
        self._file.write(np.ascontiguousarray(rows, np.float64).data)

    def close(self) -> None:
        """Write the header again: it has room for any number of rows."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        shape = (self._rows, *self._row_shape)
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


WRITERS: dict[str, type[Writer]] = {".csv": CsvWriter, ".tsv": TsvWriter, ".parquet": ParquetWriter, ".npy": NpyWriter}


def writer_of(path: Path | None) -> type[Writer]:
    """What writes files of this name's kind, without a name CSV.

    Raises:
        UsageError: nothing does.
    """
    suffix = path.suffix.lower() if path else ".csv"
    if suffix not in WRITERS:
        raise UsageError(f"flowbench cannot write files like {path}", did_you_mean(suffix, WRITERS))
    return WRITERS[suffix]


def write_table(
    path: Path | None, columns: Sequence[str], batches: Iterable[Float64], labels: Labels | None = None
) -> None:
    """Write batches of rows, each (n, D), or (n,) of a single column, as they come; without a path as CSV to stdout.

    The values of columns that have ``labels`` are the places of those that are written.

    The file takes the place of an older one once it is whole; if a batch raises, nothing is left of it.

    Raises:
        UsageError: files with this suffix cannot be written, or this one cannot.
    """
    kind = writer_of(path)
    batches = iter(batches)
    # before a header is written to where it stays: the first rows may be refused
    first = list(itertools.islice(batches, 1)) if path is None else []
    if path is None and sys.stdout.isatty():  # names come from files, and must not steer the terminal
        labels = {printable(name): own for name, own in (labels or {}).items()}
        columns = [printable(name) for name in columns]
    with written_whole(path) if path else _stdout() as file, closing(kind(file, columns, labels or {})) as writer:
        for rows in itertools.chain(first, batches):
            writer.write(rows)


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # who reads has seen enough; Python's own flush at its end is not to fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


Columns = Mapping[str, NDArray[Any] | None]
"""By name: the labels that a column's values are the places of, None where they are numbers of their own."""


def _columns(columns: Sequence[str], labels: Labels) -> Columns:
    return {name: _as_numbers(labels[name]) if name in labels else None for name in columns}


def _as_numbers(labels: Sequence[str]) -> NDArray[Any]:
    """Labels (K,) as numbers if all of them are, else as text."""
    with suppress(ValueError):
        return np.array([float(label) for label in labels])
    return np.array(labels, object)


def _by_column(rows: Float64, columns: Columns) -> list[NDArray[Any]]:
    by_column = np.ascontiguousarray(rows.reshape(len(rows), -1).T)
    return [
        values if labels is None else labels[values.astype(np.int64)]
        for values, labels in zip(by_column, columns.values(), strict=True)
    ]


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    text = {name for name, labels in columns.items() if labels is not None and labels.dtype == object}
    return pa.schema([(name, pa.string() if name in text else pa.float64()) for name in columns])


def _record_batch(rows: Float64, columns: Columns) -> Any:
    import pyarrow as pa

    return pa.record_batch([pa.array(column) for column in _by_column(rows, columns)], schema=_schema(columns))
