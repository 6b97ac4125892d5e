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
from flowbench.data.tables.limits import refuse_alike, refuse_expanding, refuse_wide
from flowbench.errors import DataError, reason_of

BLOCK_BYTES = 1 << 20
"""Of a CSV at a time. Larger blocks are no faster (230 MB/s on one core), and smaller ones must hold a row."""

WIDEST_ROW = 64 << 20
"""A row of more bytes than a block is read in blocks of this size."""

BATCH_VALUES = 1 << 20
"""Of a Parquet file at a time."""

SHOWN = 40
"""Characters of a value that a message quotes."""

_LOST = "expected an undamaged file in UTF-8 with one line of column names and as many fields in every row"


class CsvPart:
    """A file of text, one row a line, with a line of names."""

    rows = None

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self.delimiter = delimiter
        self._block = BLOCK_BYTES
        with self._reading(), path.open("rb") as stream:
            first = stream.readline(BLOCK_BYTES // 2)
            check_text(path, first, delimiter)
            if len(first) == BLOCK_BYTES // 2:
                self._block = WIDEST_ROW
                first += stream.readline(WIDEST_ROW)
        if len(first) > WIDEST_ROW:
            raise DataError(f"the first line of {path} is longer than {WIDEST_ROW >> 20} MiB", _LOST)
        refuse_wide(path, 1 + first.count(delimiter.encode()))
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
            found = re.search(r"CSV column #(\d+): Row #(\d+): .* invalid value '(.*)'", str(error), re.DOTALL)
            if found:  # rows are counted from the line of names on
                column, row, value = self.names[int(found[1])], int(found[2]) - 1, found[3]
                raise _not_numbers(self._path, column, value, row) from error
            raise DataError(f"cannot read {self._path}: {reason_of(error)}", _LOST) from error


class ParquetPart:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dictionaries: list[str] = []
        with self._reading():
            file = self._open()
            self.rows = file.metadata.num_rows
            refuse_wide(path, file.metadata.num_columns)
            refuse_alike(path, self.rows, file.metadata.num_columns, path.stat().st_size)
            schema = file.schema_arrow
            self.names, self.text = tuple(schema.names), _of_text(schema)
            self._nested = {field.name: str(field.type) for field in schema if _is_nested(field.type)}
            self._dictionaries = [field.name for field in schema if _is_words(field.type)]
            # of each column a page is unpacked all at once, and may be all that it has in a row group; sizes of single
            # columns are not asked for: where a footer is damaged, pyarrow 26 ends the process
            groups = (file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            refuse_expanding(path, max(groups, default=0), path.stat().st_size)

    def batches(self, columns: Sequence[str]) -> Iterator[Float64]:
        """See `files.Part`."""
        first = 0
        for batch in self._read(columns):
            yield to_rows(self._path, batch, columns, first)
            first += batch.num_rows

    def labels(self, column: str) -> Iterator[NDArray[Any]]:
        """See `files.Part`."""
        for batch in self._read([column]):
            with self._reading():
                labels = to_labels(batch.column(batch.schema.get_field_index(column)))
            yield labels

    def _read(self, columns: Sequence[str]) -> Iterator[Any]:
        for name in columns:
            if name in self._nested:
                message = f"{self._path}: column {name!r} holds no single values but {self._nested[name]}"
                raise DataError(message, "leave it out (--drop-columns), or write a column for each of its values")
        rows = max(1, BATCH_VALUES // max(1, len(columns)))
        with self._reading():
            yield from self._open().iter_batches(rows, columns=list(columns), use_threads=True)

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(
            self._path,
            # buffered, not fetched ahead: else a whole row group, maybe all of the table, is in memory at a time
            pre_buffer=False,
            buffer_size=BLOCK_BYTES,
            # a word that is there once is not made a copy of for each row
            read_dictionary=self._dictionaries,
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            hint = "it may be cut short or no Parquet file: write it again"
            raise DataError(f"cannot read {self._path}: {reason_of(error)}", hint) from error


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
    """A column as text (n,), None where a value is missing.

    Raises:
        ArrowInvalid: it is damaged.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column.validate(full=True)
        words = np.array([*to_labels(column.dictionary), None], object)
        return np.asarray(words[column.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)])
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
    # pyarrow's own search goes through all names, for each
    at = {name: i for i, name in enumerate(batch.schema.names)}
    for i, name in enumerate(columns):
        rows[:, i] = _to_float64(path, name, batch.column(at[name]), first)
    return rows


def _to_float64(path: Path | str, name: str, column: Any, first: int) -> NDArray[Any]:
    """The column's values, which begin in row ``first`` of the file."""
    import pyarrow as pa

    if not _is_numeric(column.type):
        # one by one: all at once could be the same long text a million times
        values = ((i, scalar.as_py()) for i, scalar in enumerate(column))
        # a column of text may look like numbers throughout
        row, value = next((pair for pair in values if not _is_number(pair[1])), (0, column[0].as_py()))
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


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(kind))


def _is_words(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _of_text(schema: Any) -> frozenset[str]:
    return frozenset(field.name for field in schema if not _is_numeric(field.type))


def _not_numbers(path: Path | str, column: str, value: Any, row: int) -> DataError:
    return DataError(
        f"{path}: column {column!r} is not numeric: it holds {shown(value)} in row {row}",
        "drop the column (--drop-columns), or convert it to numbers",
    )


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    return repr(value if len(str(value)) <= SHOWN else f"{str(value)[:SHOWN]}…")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
