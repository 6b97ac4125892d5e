"""A table that comes through a pipe, as CSV or an Arrow IPC stream: read once, its rows as soon as they are there."""

from __future__ import annotations

import io
import os
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from flowbench.data.tables.arrow import check_header, check_text, to_labels, to_rows
from flowbench.data.tables.csv_block import CsvBlocks, names_of
from flowbench.data.tables.files import check_names
from flowbench.data.tables.records import Records
from flowbench.data.tables.row_ends import RowEnds
from flowbench.errors import DataError, reason_of

BLOCK_BYTES = 1 << 20
"""Of rows that have come already, so many are taken together at the most."""

LONGEST_ROW = 64 << 20
"""Bytes without the end of a row after which none is waited for."""

BATCH_VALUES = 1 << 20
"""Of a record batch at a time."""

ARROW = b"\xff\xff\xff\xff"
"""What an Arrow IPC stream begins with: the mark before its first message's length."""


class CsvStream:
    """CSV from a file's descriptor, one line of names first; ``head`` is what was read of it already."""

    def __init__(self, number: int, name: str, delimiter: str, head: bytes = b"") -> None:
        self.name = name
        self._number, self._delimiter = number, delimiter
        first = b""
        while not first.strip():  # empty lines are no rows
            first, head = _first_line(number, name, head, delimiter)
        self._rest = head
        check_text(name, first, delimiter)
        self.columns = names_of(name, first, delimiter)
        check_header(name, self.columns)
        check_names(name, self.columns)

    def read(self, numbers: Sequence[str], text: Sequence[str]) -> Iterator[Records]:
        """See `Source`."""
        blocks = CsvBlocks(self.name, self.columns, self._delimiter, numbers, text)
        for block in _whole_lines(self._number, self.name, self._rest, self._delimiter):
            records = blocks.parse(block)
            if len(records.numbers):
                yield records


class ArrowStream:
    """An Arrow IPC stream: a record batch's rows are there once all of it is."""

    def __init__(self, number: int, name: str, head: bytes) -> None:
        self.name = name
        with self._reading():
            import pyarrow as pa

            file = io.BufferedReader(_Resumed(number, head), BLOCK_BYTES)
            self._reader = pa.ipc.open_stream(pa.PythonFile(file, mode="r"))
            self.columns = tuple(self._reader.schema.names)
        check_names(name, self.columns)

    def read(self, numbers: Sequence[str], text: Sequence[str]) -> Iterator[Records]:
        """See `Source`."""
        first, most = 0, max(1, BATCH_VALUES // max(1, len(numbers)))
        while (batch := self._next()) is not None:
            for start in range(0, batch.num_rows, most):
                some = batch.slice(start, most)
                with self._reading():
                    labels = {name: to_labels(some.column(name)) for name in text}
                yield Records(to_rows(self.name, some, numbers, first + start), labels)
            first += batch.num_rows

    def _next(self) -> Any:
        with self._reading(), suppress(StopIteration):
            return self._reader.read_next_batch()
        return None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {self.name}: {reason_of(error)}", "the stream is damaged or cut") from error


class _Resumed(io.RawIOBase):
    """What comes from a descriptor, after what was read of it before."""

    def __init__(self, number: int, head: bytes) -> None:
        self._number, self._head = number, head

    def readable(self) -> bool:
        return True

    def readinto(self, place: Any) -> int:
        if not self._head:
            return os.readv(self._number, [place])
        some, self._head = self._head[: len(place)], self._head[len(place) :]
        place[: len(some)] = some
        return len(some)


def _first_line(number: int, name: str, head: bytes, delimiter: str) -> tuple[bytes, bytes]:
    """The first line, and what was read after it."""
    ends, waiting = RowEnds(delimiter), bytearray(head)
    while not ends.last(waiting):
        more = os.read(number, BLOCK_BYTES)
        if not more:
            if waiting.strip():
                return bytes(waiting), b""
            raise DataError(f"{name} is empty", "expected a line of column names and then rows")
        waiting += more
        _check_length(name, waiting)
    end = ends.first(waiting)
    return bytes(waiting[:end]), bytes(waiting[end:])


def _whole_lines(number: int, name: str, rest: bytes, delimiter: str) -> Iterator[bytes]:
    """Blocks of whole rows: all that have come whenever it is asked, and at the end what has no end of its own."""
    ends, waiting = RowEnds(delimiter), bytearray(rest)
    while True:
        end = ends.last(waiting)
        if end:
            yield bytes(waiting[:end])
            del waiting[:end]
            ends.forget(end)
        more = _what_there_is(number)
        if not more:
            break
        waiting += more
        _check_length(name, waiting)
    if waiting:
        yield bytes(waiting)


def _what_there_is(number: int) -> bytes:
    """Bytes as soon as there are some, and what else has come by then, up to a block; none at the end."""
    found = os.read(number, BLOCK_BYTES)
    parts, total = [found], len(found)
    while found and total < BLOCK_BYTES and _has_more(number):
        found = os.read(number, BLOCK_BYTES - total)
        parts.append(found)
        total += len(found)
    return b"".join(parts)


def _has_more(number: int) -> bool:
    try:
        return bool(select.select([number], [], [], 0)[0])
    except (OSError, ValueError):  # what cannot be asked, or not by that number
        return False


def _check_length(name: str, waiting: bytes | bytearray) -> None:
    if len(waiting) > LONGEST_ROW + BLOCK_BYTES:
        raise DataError(f"{name} has a row of more than {LONGEST_ROW >> 20} MiB", "is a quotation mark left open?")
