"""Where rows to be scored come from: files, standard input, a FIFO."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowbench.data.tables.arrow import CsvPart
from flowbench.data.tables.files import Part, TableFile, open_table
from flowbench.data.tables.records import Records, Source
from flowbench.data.tables.stream import ARROW, BLOCK_BYTES, ArrowStream, CsvStream
from flowbench.errors import DataError
from flowbench.files import expanded

STANDARD_INPUT = "-"

ELSE = {b"ARROW1": "an Arrow file", b"PAR1": "a Parquet file", b"\x93NUMPY": "a .npy file", b"PK": "an archive (.npz)"}
"""What is no stream, by its first bytes: its end must be known before its beginning can be read."""


def is_stream(data: str) -> bool:
    """Whether ``data`` is standard input, a FIFO or the like: what can be read once, and has no size."""
    if data == STANDARD_INPUT:
        return True
    with suppress(OSError):
        mode = expanded(data).stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def open_source(data: str) -> Source:
    """The table in the file or folder ``data``, or in a stream, opened as far as the names of its columns.

    Raises:
        DataError: there is none, it is empty, or its first line is not one of names.
    """
    path = expanded(data)
    if not is_stream(data) and not _is_text(path):
        return TableSource(open_table(path))
    name = "standard input" if data == STANDARD_INPUT else str(path)
    number = sys.stdin.fileno() if data == STANDARD_INPUT else os.open(path, os.O_RDONLY)
    _widen(number)
    head = os.read(number, BLOCK_BYTES)
    while head and len(head) < len(ARROW) and ARROW.startswith(head):
        more = os.read(number, BLOCK_BYTES)
        if not more:
            break
        head += more
    if not head:
        raise DataError(f"{name} is empty", "expected a line of column names and then rows, or an Arrow stream")
    for mark, what in ELSE.items():
        if head.startswith(mark) and b"\0" in head:  # a name may begin so, too
            raise DataError(f"{name} gives {what}, which is no stream", "name the file with --data, or pipe CSV")
    if head.startswith(ARROW):
        return ArrowStream(number, name, head)
    return CsvStream(number, name, "\t" if path.suffix.lower() == ".tsv" else ",", head)


def _is_text(path: Path) -> bool:
    """Whether it is one file of CSV, read as a stream is, so that a bad row among the first is one like others."""
    return path.suffix.lower() in (".csv", ".tsv") and path.is_file() and path.stat().st_size > 0


def _widen(number: int) -> None:
    """Let a pipe hold a block, where the system can: else a burst comes in parts of 64 KB."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, BLOCK_BYTES)


@dataclass(frozen=True, eq=False)
class TableSource:
    """A table in files."""

    table: TableFile

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.table.path)

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Source`."""
        return self.table.columns

    def read(self, numbers: Sequence[str], text: Sequence[str]) -> Iterator[Records]:
        """See `Source`."""
        for path, part in zip(self.table.files, self.table.parts, strict=True):
            yield from _read(path, part, numbers, text)


def _read(path: Path, part: Part, numbers: Sequence[str], text: Sequence[str]) -> Iterator[Records]:
    if isinstance(part, CsvPart):  # row by row: in a file of text each may have a fault of its own
        with path.open("rb", buffering=0) as file:
            yield from CsvStream(file.fileno(), str(path), part.delimiter).read(numbers, text)
        return
    labels = {name: part.labels(name) for name in text}
    waiting = {name: np.empty(0, object) for name in text}
    for rows in part.batches(numbers):
        taken = {}
        for name, some in waiting.items():
            while len(some) < len(rows):
                some = np.concatenate([some, next(labels[name])])
            taken[name], waiting[name] = some[: len(rows)], some[len(rows) :]
        yield Records(rows, taken)
