"""Rows of CSV, a block of whole lines at a time, with what is wrong with each row."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowbench.console import plural
from flowbench.data.dataset import Float64
from flowbench.data.tables.arrow import shown
from flowbench.data.tables.limits import refuse_wide
from flowbench.data.tables.records import Fault, Records
from flowbench.errors import DataError

NO_NUMBER = "that is no number"
MISSHAPEN = "with another number of fields"


def names_of(source: str, line: bytes, delimiter: str) -> tuple[str, ...]:
    """The names in the first line.

    Raises:
        DataError: it is not text in UTF-8, or no line of names.
    """
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not text in UTF-8", "save it in UTF-8") from error
    refuse_wide(source, 1 + text.count(delimiter))
    try:
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), ()))
    except csv.Error as error:
        message = f"the first line of {source} is no line of names: {error}"
        raise DataError(message, "put a line of column names first") from error


class CsvBlocks:
    """Blocks of whole lines to rows with these columns, by pyarrow; a block with a fault is read again as text."""

    def __init__(
        self, source: str, names: Sequence[str], delimiter: str, numbers: Sequence[str], text: Sequence[str]
    ) -> None:
        from pyarrow import csv as arrow_csv

        self._source, self._names, self._numbers, self._text = source, list(names), list(numbers), list(text)
        self._misshapen: list[tuple[int, Fault]] = []
        self._parse = arrow_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=self._note_misshapen
        )
        # a column may be wanted as both
        self._plain = self._conversion([name for name in numbers if name not in text])
        self._as_text = self._conversion([])

    def parse(self, block: bytes) -> Records:
        """The rows of a block."""
        import pyarrow as pa

        if not block.isascii():  # what is no UTF-8 is a fault of its row at the most
            block = block.decode(errors="replace").encode()
        try:
            table = self._read(block, self._plain)
        except pa.ArrowInvalid:
            table = self._read(block, self._as_text)
        faults: dict[int, Fault] = {}
        text = {name: _texts(table.column(name)) for name in self._text}
        numbers = np.empty((table.num_rows, len(self._numbers)))
        for i, name in enumerate(self._numbers):
            column = table.column(name)
            if pa.types.is_floating(column.type):
                numbers[:, i] = column.to_numpy()
            else:
                numbers[:, i] = self._lenient(name, text[name] if name in text else _texts(column), faults)
        return self._with_misshapen(Records(numbers, text, faults))

    def _conversion(self, numbers: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        wanted = list(dict.fromkeys([*self._numbers, *self._text]))
        types = {name: pa.float64() if name in numbers else pa.string() for name in wanted}
        return arrow_csv.ConvertOptions(column_types=types, include_columns=wanted)

    def _read(self, block: bytes, conversion: Any) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        self._misshapen.clear()
        # one thread, so that rows have numbers; one block, so that a row may have lines
        reading = arrow_csv.ReadOptions(use_threads=False, column_names=self._names, block_size=len(block) + 1)
        return arrow_csv.read_csv(
            pa.BufferReader(block), read_options=reading, parse_options=self._parse, convert_options=conversion
        )

    def _note_misshapen(self, row: Any) -> str:
        found, expected = plural(row.actual_columns, "field"), row.expected_columns
        message = f"there {'is' if row.actual_columns == 1 else 'are'} {found} and not {expected} ({shown(row.text)})"
        self._misshapen.append(
            (row.number - 1, Fault(MISSHAPEN, message, "is a separator missing, or are quotation marks?"))
        )
        return "skip"

    def _lenient(self, name: str, values: NDArray[Any], faults: dict[int, Fault]) -> Float64:
        found = np.empty(len(values))
        for row, value in enumerate(values):
            number = as_number(value)
            if number is None:
                message = f"column {name!r} is not numeric: it holds {shown(value)}"
                faults.setdefault(row, Fault(NO_NUMBER, message, "convert it to a number"))
            found[row] = np.nan if number is None else number
        return found

    def _with_misshapen(self, found: Records) -> Records:
        """The same with the rows that were left out for their number of fields, of which nothing is known."""
        if not self._misshapen:
            return found
        lost = [row for row, _ in self._misshapen]
        kept = np.setdiff1d(np.arange(len(found.numbers) + len(lost)), lost)
        numbers = np.full((len(kept) + len(lost), found.numbers.shape[1]), np.nan)
        numbers[kept] = found.numbers
        text = {}
        for name, values in found.text.items():
            text[name] = np.full(len(numbers), None, object)
            text[name][kept] = values
        faults = {int(kept[row]): fault for row, fault in found.faults.items()}
        return Records(numbers, text, faults | dict(self._misshapen))


def as_number(value: str | None) -> float | None:
    """The number that stands there, NaN where a value is missing; None: it is no number. As pyarrow takes them."""
    text = (value or "").strip(" \t")
    if text in missing_marks():
        return float("nan")
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return float(text[0] in "tT")
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


@functools.cache
def missing_marks() -> frozenset[str]:
    """What stands for a missing value: nothing, NA, NaN, null, ..."""
    from pyarrow import csv as arrow_csv

    return frozenset(arrow_csv.ConvertOptions().null_values)


def _texts(column: Any) -> NDArray[Any]:
    return np.array(column.to_pylist(), object)
