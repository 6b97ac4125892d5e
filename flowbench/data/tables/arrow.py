"""CSV, TSV and Parquet in batches of rows, by pyarrow's streaming readers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.data.dataset import Float64
from flowbench.errors import DataError

BLOCK_BYTES = 1 << 20
"""Of a CSV at a time. Larger blocks are no faster (230 MB/s on one core), and smaller ones must hold a row."""

WIDEST_ROW = 64 << 20
"""A row of more bytes than a block is read in blocks of this size."""

BATCH_VALUES = 1 << 20
"""Of a Parquet file at a time."""

_LOST = "expected an undamaged file in UTF-8 with one line of column names and as many fields in every row"


class CsvPart:
    """A file of text, one row a line, with a line of names."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self.delimiter = delimiter
        self._block = BLOCK_BYTES
        with self._reading(), path.open("rb") as stream:
            first = stream.readline(BLOCK_BYTES // 2)
        check_text(path, first, delimiter)
        if len(first) == BLOCK_BYTES // 2:
            self._block = WIDEST_ROW
        import pyarrow as pa

        with self._reading():
            schema = self._open({}, None).schema
            self.names = tuple(schema.names)
            self.text = _of_text(schema)
        check_header(path, self.names)
        # the streaming reader infers types from the first block alone: all are float64, whatever stands there
        self._types = {field.name: field.type if field.type == pa.bool_() else pa.float64() for field in schema}

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        with self._reading():
            for batch in self._open(self._types, columns):
                yield to_rows(self._path, batch, columns, 0)

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        import pyarrow as pa

        with self._reading():
            for batch in self._open({column: pa.string()}, [column], strings_can_be_null=True):
                yield np.asarray(batch.column(column).to_pylist(), object)

    def _open(self, types: dict[str, Any], columns: Sequence[str] | None, **conversion: Any) -> Any:
        from pyarrow import csv

        return csv.open_csv(
            self._path,
            # one thread, so that an error names its row
            read_options=csv.ReadOptions(use_threads=False, block_size=self._block),
            parse_options=csv.ParseOptions(delimiter=self.delimiter),
            convert_options=csv.ConvertOptions(column_types=types, include_columns=columns, **conversion),
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).strip()
            found = re.search(r"CSV column #(\d+): Row #(\d+): .* invalid value '(.*)'", reason, re.DOTALL)
            if found:  # rows are counted from the line of names on
                column, row, value = self.names[int(found[1])], int(found[2]) - 1, found[3]
                raise _not_numbers(self._path, column, value, row) from error
            raise DataError(f"cannot read {self._path}: {reason}", _LOST) from error


class ParquetPart:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reading():
            schema = self._open().schema_arrow
            self.names, self.text = tuple(schema.names), _of_text(schema)

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        first = 0
        for batch in self._read(columns):
            yield to_rows(self._path, batch, columns, first)
            first += batch.num_rows

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        for batch in self._read([column]):
            yield to_labels(batch.column(batch.schema.get_field_index(column)))

    def _read(self, columns: Sequence[str]) -> Iterator[Any]:
        rows = max(1, BATCH_VALUES // max(1, len(columns)))
        with self._reading():
            yield from self._open().iter_batches(rows, columns=list(columns), use_threads=True)

    def _open(self) -> Any:
        from pyarrow import parquet

        # buffered, not fetched ahead: else a whole row group, maybe all of the table, is in memory at a time
        return parquet.ParquetFile(self._path, pre_buffer=False, buffer_size=BLOCK_BYTES)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            hint = "it may be cut short or no Parquet file: write it again"
            raise DataError(f"cannot read {self._path}: {str(error).strip()}", hint) from error


def check_text(path: Path | str, first: bytes, delimiter: str) -> None:
    """Name what is commonly given for a table of text, from its first line."""
    if first.startswith(b"\x1f\x8b"):
        raise DataError(f"{path} is compressed by gzip", "unpack it first")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is text in UTF-16", "save it in UTF-8")
    if delimiter.encode() not in first and any(mark in first for mark in b";\t|,"):
        quoted = first[:80].decode(errors="replace").strip()
        raise DataError(
            f"{path} has no {'commas' if delimiter == ',' else 'tabs'} between its columns: {quoted!r}",
            "separate columns by commas (.csv) or tabs (.tsv), and write decimals with a point",
        )


def to_labels(column: Any) -> NDArray[Any]:
    """A column as text (n,), None where a value is missing."""
    # NaN is what a missing number is in most programs
    return np.array([None if x is None or x != x else str(x) for x in column.to_pylist()], object)


def check_header(path: Path | str, names: Sequence[str]) -> None:
    """Refuse names that are numbers, or no text."""
    if any("\x00" in name for name in names):
        raise DataError(f"{path} is not text in UTF-8", "save it in UTF-8")
    # 0, 1, 2, ... are the names that pandas gives to columns without any
    if all(_is_number(name) for name in names) and list(names) != [str(i) for i in range(len(names))]:
        raise DataError(f"the first line of {path} holds numbers, expected column names", "put a line of names first")


def to_rows(path: Path | str, batch: Any, columns: Sequence[str], first: int) -> Float64:
    """The columns of a record batch (n, C); its rows begin with the one after the ``first`` of the file."""
    rows = np.empty((batch.num_rows, len(columns)))
    for i, name in enumerate(columns):
        rows[:, i] = _to_float64(path, name, batch.column(batch.schema.get_field_index(name)), first)
    return rows


def _to_float64(path: Path | str, name: str, column: Any, first: int) -> NDArray[Any]:
    """The column's values, which begin in row ``first`` of the file."""
    import pyarrow as pa

    if not _is_numeric(column.type):
        values = column.to_pylist()
        # a column of text may look like numbers throughout
        row, value = next(((i, v) for i, v in enumerate(values) if not _is_number(v)), (0, values[0]))
        raise _not_numbers(path, name, value, first + row + 1)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.type != pa.float64():  # unsafe only in that integers beyond 2^53 are rounded
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _is_numeric(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def _of_text(schema: Any) -> frozenset[str]:
    return frozenset(field.name for field in schema if not _is_numeric(field.type))


def _not_numbers(path: Path | str, column: str, value: Any, row: int) -> DataError:
    return DataError(
        f"{path}: column {column!r} is not numeric: it holds {value!r} in row {row}",
        "drop the column (--drop-columns), or convert it to numbers",
    )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
