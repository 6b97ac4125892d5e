"""Writing a table in batches of rows: CSV, TSV, Parquet or .npy, whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from flowbench.console import Shown
from flowbench.data.dataset import Float64
from flowbench.errors import UsageError, did_you_mean
from flowbench.files import npy_header, written_whole

ROW_GROUP_VALUES = 1 << 20
"""Values in a row group of Parquet at the least: groups of a few rows are slow to read and large."""


@dataclass(frozen=True)
class Column:
    """A column to be written: numbers, whole ones, or text; or values that are the places of its ``labels``.

    With ``gaps``, NaN is a missing value: an empty field.
    """

    name: str
    kind: Literal["number", "whole", "text"] = "number"
    labels: tuple[str, ...] = ()
    gaps: bool = False

    def values(self, column: NDArray[Any]) -> NDArray[Any]:
        """What is written of values (n,)."""
        return self._written[column.astype(np.int64)] if self.labels else column

    @property
    def holds_text(self) -> bool:
        """Whether what is written is text: of labels that are numbers, all of them, it is numbers."""
        return self.kind == "text" or (bool(self.labels) and self._written.dtype == object)

    @cached_property
    def _written(self) -> NDArray[Any]:
        with suppress(ValueError):
            return np.array([float(label) for label in self.labels])
        return np.array(self.labels, object)


Batch = Float64 | Sequence[NDArray[Any]]
"""Rows (n, D), or (n,) of a single column; or the columns (n,), each of its kind."""


class Writer(Protocol):
    """A kind of file."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None: ...

    def write(self, rows: Batch) -> None:
        """Some rows."""
        ...

    def close(self) -> None:
        """There are no more; the file itself stays open."""
        ...


class CsvWriter:
    """Text, every number with the digits that lead back to it."""

    delimiter = ","

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        from pyarrow import csv as arrow_csv

        self._file, self._columns = file, columns
        self._write_lines([[column.name for column in columns]])
        options = arrow_csv.WriteOptions(include_header=False, delimiter=self.delimiter)
        self._writer = arrow_csv.CSVWriter(file, _schema(columns), write_options=options)

    def write(self, rows: Batch) -> None:
        """See `Writer`."""
        if any(column.holds_text for column in self._columns):  # pyarrow would put all text in quotation marks
            found = zip(_by_column(rows, self._columns), self._columns, strict=True)
            lists = [_with_gaps(values) if own.gaps else values.tolist() for values, own in found]
            self._write_lines(zip(*lists, strict=True))
        else:
            self._writer.write_batch(_record_batch(rows, self._columns))

    def close(self) -> None:
        """See `Writer`."""
        self._writer.close()

    def _write_lines(self, rows: Iterable[Iterable[Any]]) -> None:
        lines = io.StringIO()
        csv.writer(lines, delimiter=self.delimiter, lineterminator="\n").writerows(rows)
        self._file.write(lines.getvalue().encode())


class TsvWriter(CsvWriter):
    """As CSV, separated by tabs."""

    delimiter = "\t"


class ParquetWriter:
    """Parquet, in row groups of a million values."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        from pyarrow import parquet

        self._columns = columns
        self._writer = parquet.ParquetWriter(file, _schema(self._columns))
        self._waiting: list[Any] = []

    def write(self, rows: Batch) -> None:
        """See `Writer`."""
        self._waiting.append(_record_batch(rows, self._columns))
        if sum(waiting.num_rows for waiting in self._waiting) * len(self._columns) >= ROW_GROUP_VALUES:
            self._write_group()

    def close(self) -> None:
        """See `Writer`."""
        if self._waiting:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        group = pa.Table.from_batches(self._waiting)
        self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self._waiting = []


class NpyWriter:
    """What ``numpy.load`` reads: (N, D), or (N,) if rows came so. Names of columns have no place in it."""

    def __init__(self, file: BinaryIO, columns: Sequence[Column]) -> None:
        self._file, self._columns = file, columns
        text = [column.name for column in columns if column.holds_text]
        if text:
            raise UsageError(f"a .npy holds numbers, and {text[0]!r} is text", "write a .csv or .parquet")
        self._rows, self._row_shape = 0, (len(columns),)
        self._write_header()

    def write(self, rows: Batch) -> None:
        """See `Writer`."""
        if not isinstance(rows, np.ndarray) or any(column.labels for column in self._columns):
            rows = np.stack(_by_column(rows, self._columns), axis=1)
        self._rows += len(rows)
        self._row_shape = rows.shape[1:]
        self._file.write(np.ascontiguousarray(rows, np.float64).data)

    def close(self) -> None:
        """Write the header again: it has room for any number of rows."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        self._file.write(npy_header("<f8", (self._rows, *self._row_shape)))


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


def write_table(path: Path | None, columns: Sequence[Column], batches: Iterable[Batch]) -> None:
    """Write batches of rows as they come; without a path as CSV to stdout, where a batch is there once it is written.

    The file takes the place of an older one once it is whole; if a batch raises, nothing is left of it.

    Raises:
        UsageError: files with this suffix cannot be written, or this one cannot.
    """
    kind = writer_of(path)
    batches = iter(batches)
    # before a header is written to where it stays: the first rows may be refused
    first = list(itertools.islice(batches, 1)) if path is None else []
    with written_whole(path) if path else _stdout() as file, closing(kind(file, columns)) as writer:
        for rows in itertools.chain(first, batches):
            writer.write(rows)
            if path is None:
                file.flush()


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    try:
        # what is text in a table must not steer the terminal; in a pipe or a file it is data
        yield cast("BinaryIO", Shown(sys.stdout.buffer)) if sys.stdout.isatty() else sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # who reads has seen enough; Python's own flush at its end is not to fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _by_column(rows: Batch, columns: Sequence[Column]) -> list[NDArray[Any]]:
    if isinstance(rows, np.ndarray):
        rows = list(np.ascontiguousarray(rows.reshape(len(rows), -1).T))
    return [column.values(values) for values, column in zip(rows, columns, strict=True)]


def _with_gaps(values: NDArray[Any]) -> list[float | None]:
    """The values, None for NaN."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def _schema(columns: Sequence[Column]) -> Any:
    import pyarrow as pa

    whole, number = pa.int64(), pa.float64()
    return pa.schema(
        [(c.name, pa.string() if c.holds_text else whole if c.kind == "whole" else number) for c in columns]
    )


def _record_batch(rows: Batch, columns: Sequence[Column]) -> Any:
    import pyarrow as pa

    schema = _schema(columns)
    found = zip(_by_column(rows, columns), columns, schema, strict=True)
    arrays = [pa.array(values, own.type, from_pandas=column.gaps) for values, column, own in found]
    return pa.record_batch(arrays, schema=schema)
